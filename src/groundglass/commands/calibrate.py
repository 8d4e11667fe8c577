"""``groundglass calibrate``: choose, on labelled predictions, when a detector answers ``uncertain``."""

from pathlib import Path

from groundglass.detect.abstention import COVERAGE
from groundglass.detect.bundle import Bundle
from groundglass.errors import GroundglassError
from groundglass.evaluation.predictions import read_predictions
from groundglass.evaluation.recalibration import LabelledAnswers, Recalibration, recalibrate
from groundglass.files import sha256
from groundglass.labels import NOT_A_CHEST_CT, need_positive


def calibrate(
    bundle: Bundle, predictions: Path, *, coverage: float = COVERAGE, refit: bool = False, seed: int = 0
) -> Recalibration:
    """Choose when a detector answers ``uncertain``, and store that in its bundle and model card.

    The choice is validated by leaving out each source in turn, or a fifth of the groups if there is one source.

    Parameters
    ----------
    bundle
        Must be a folder; a zip is not rewritten.
    predictions
        A predictions.csv of labelled slices that the network, or networks trained in the same way on other sources,
        were not trained on. Slices that are not chest CT are left out.
    coverage
        The share of each class whose right answer should stay possible.
    refit
        Also fit temperature and bias to the scores, with each source weighted alike, and choose the threshold by
        balanced accuracy.
    seed
        Seed of the resamples that choose the threshold, and of the folds.

    Raises
    ------
    GroundglassError
        If the file is not a predictions.csv, a label is blank, a class is absent, the bundle is a zip, or ``refit``
        is used with a detector of several classes.
    """
    bundle.check_enterable()
    if refit and bundle.facts.classes:
        raise GroundglassError(
            f"{bundle.source}: has several classes, and a predictions.csv does not have a score for each; leave "
            "out --refit"
        )
    table = read_predictions(predictions)
    need_positive(table["label"], str(predictions))
    chest = table[table["verdict"] != NOT_A_CHEST_CT]
    answers = LabelledAnswers.of_predictions(chest, with_logits=refit)
    if not answers.both_classes:
        raise GroundglassError(
            f"{predictions}: all slices have the same label; slices with and without COVID-19 are needed"
        )
    origin = f"{answers.describe()}: {predictions.name}, fingerprint {sha256(predictions)}"
    result = recalibrate(bundle.facts, answers, coverage, origin, seed)
    bundle.enter(**result.updates)
    if left_out := len(table) - len(chest):
        result.notes.insert(0, f"{left_out} of {len(table)} slices are {NOT_A_CHEST_CT} and were left out")
    return result
