"""``groundglass calibrate``: choose, on labelled predictions, when a detector answers ``uncertain``."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from groundglass.detect.abstention import COVERAGE
from groundglass.detect.bundle import Bundle
from groundglass.errors import GroundglassError
from groundglass.evaluation.predictions import read_predictions
from groundglass.evaluation.recalibration import LabelledAnswers, Recalibration, choose_setting, recalibrate
from groundglass.files import sha256
from groundglass.labels import NOT_A_CHEST_CT, need_positive


def calibrate(
    bundle: Bundle,
    predictions: Path,
    *,
    coverage: float = COVERAGE,
    refit: bool = False,
    setting: str | None = None,
    sources: Sequence[str] = (),
    seed: int = 0,
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
        Also fit temperature and bias to the scores, with equal weight for each source, and choose the
        threshold by balanced accuracy.
    setting
        The setting (groundglass.detect.setting.CONTROLS) whose answers and likelihood ratios are chosen;
        other settings are kept.
    sources
        Use only slices of these sources; all by default.
    seed
        Seed of the resamples that choose the threshold, and of the folds.

    Raises
    ------
    GroundglassError
        If the file is not a predictions.csv, a label is blank, a class is absent, the bundle is a zip, or ``refit``
        is used with a detector of several classes.
    """
    bundle.check_enterable()
    if (refit or setting) and bundle.facts.classes:
        raise GroundglassError(
            f"{bundle.source}: has several classes, and a predictions.csv does not have a score for each; leave "
            f"out {'--setting' if setting else '--refit'}"
        )
    table = read_predictions(predictions)
    need_positive(table["label"], str(predictions))
    if sources:
        table = _of_sources(table, sources, predictions)
    chest = table[table["verdict"] != NOT_A_CHEST_CT]
    with_shares = setting is not None
    answers = LabelledAnswers.of_predictions(chest, with_logits=refit or with_shares, with_shares=with_shares)
    if not answers.both_classes:
        raise GroundglassError(
            f"{predictions}: all slices have the same label; slices with and without COVID-19 are needed"
        )
    origin = f"{answers.describe()}: {predictions.name}, fingerprint {sha256(predictions)}"
    if setting is None:
        result = recalibrate(bundle.facts, answers, coverage, origin, seed)
    else:
        result = choose_setting(bundle.facts, answers, setting, coverage, origin, seed)
    bundle.enter(**result.updates)
    if left_out := len(table) - len(chest):
        result.notes.insert(0, f"{left_out} of {len(table)} slices are {NOT_A_CHEST_CT} and were left out")
    return result


def _of_sources(table: pd.DataFrame, sources: Sequence[str], path: Path) -> pd.DataFrame:
    known = set(table["source"]) if "source" in table else set()
    for name in sources:
        if name not in known:
            raise GroundglassError(
                f"{path}: has no slices of the source {name}; it has {', '.join(sorted(known))}"
            )
    return table[table["source"].isin(sources)]
