"""What stands beside the AUC of an evaluation, gathered while the detector answers: no slice is read twice."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.check import NotApplicable
from groundglass.audit.data.label_from_metadata import OF_BYTES, TREES
from groundglass.audit.detector.lungs import lungs_removed_auc, places_with_lungs
from groundglass.audit.detector.seen_in_training import SeenInTraining
from groundglass.audit.headers import header_features
from groundglass.audit.honest import MEANINGS, Beside, Elsewhere, HonestCard, Known, Unit
from groundglass.audit.label_prediction import predict_label
from groundglass.audit.material import SIDE, Material, SmallPictures, small_picture
from groundglass.audit.measures import auc, renumbered
from groundglass.audit.trial import Trial
from groundglass.bundle.evaluation import Estimate, Evaluation, format_estimate
from groundglass.bundle.facts import EvaluationFacts
from groundglass.data.splits import named_groups
from groundglass.detect.detector import Detector
from groundglass.detect.findings import SliceFinding
from groundglass.evaluate.metrics import resampling_groups
from groundglass.evaluate.predictions import truth_of, unit_codes
from groundglass.preprocess import Preprocessing
from groundglass.report.page import Card
from groundglass.scan.scan import Scan
from groundglass.segment.masks import Segmentation

NO_LUNGS = "lungs were not looked for"
LUNGS_ALONE = "the detector is shown the lungs alone"
NO_FINGERPRINTS = "the bundle holds no fingerprints of what it was trained on"
MOSTLY = 0.5
"""Share of slices that must name a patient or a group for groups to be known."""
_NOWHERE = np.zeros((0, SIDE, SIDE), dtype=bool)
_UNSEEN = SmallPictures(_NOWHERE.astype(np.uint8), _NOWHERE, _NOWHERE, ())
"""For what is never looked at."""


class Kept:
    """What is kept of slices while a detector answers them.

    Parameters
    ----------
    detector
        Who answers; lungs can only be removed where it looks for them.
    name
        The dataset's.
    rows
        Manifest rows of all slices that it is to answer.
    external, part
        As of :class:`~groundglass.audit.trial.Trial`.
    """

    def __init__(
        self, detector: Detector, name: str, rows: pd.DataFrame, *, external: bool, part: str
    ) -> None:
        self._detector = detector
        self._preprocessing = detector.bundle.facts.preprocessing
        segmenter = detector.segmenter if self._preprocessing.lungs == "none" else None
        material = Material(name=name, manifest=rows, pictures=_UNSEEN)
        self._trial = Trial(detector, material, pd.DataFrame(), segmenter, external, part)
        self._drawn = set(self._trial.sample.tolist())
        self._places: list[int] = []
        self._grey: list[NDArray[np.uint8]] = []
        self._scans: list[Scan] = []
        self._segmentations: list[Segmentation] = []

    def keep(self, place: int, finding: SliceFinding) -> None:
        """Keep of the answer to the slice in this row what is looked at later; rows come in their order."""
        self._places.append(place)
        if self._detector.bundle.fingerprints is not None:
            self._grey.append(
                np.asarray(small_picture(Preprocessing().picture(finding.scan)), dtype=np.uint8)
            )
        if self._trial.segmenter is not None and finding.segmentation is not None and place in self._drawn:
            grey = self._preprocessing.grey(finding.scan)
            self._scans.append(Scan(grey, is_hu=False, scan_id=finding.scan.scan_id))
            self._segmentations.append(finding.segmentation)

    def trial(self, predictions: pd.DataFrame) -> Trial:
        """The slices that were answered, as the checks of a detector see them.

        Parameters
        ----------
        predictions
            The answers, in the order in which they were kept.
        """
        asked = self._trial
        rows = asked.material.manifest.iloc[self._places].reset_index(drop=True)
        grey = np.array(self._grey, dtype=np.uint8).reshape(-1, SIDE, SIDE)
        material = Material(asked.material.name, rows, SmallPictures(grey, _NOWHERE, _NOWHERE, ()))
        trial = Trial(asked.detector, material, predictions, asked.segmenter, asked.external, asked.part)
        trial.sample = np.flatnonzero([place in self._drawn for place in self._places])
        trial.scans, trial.segmentations = self._scans, self._segmentations
        trial.probability = predictions["probability"].to_numpy(dtype=np.float64)[trial.sample]
        return trial


def card_of_predictions(predictions: pd.DataFrame, evaluation: Evaluation) -> HonestCard:
    """What a table of predictions tells by itself; all else is not known.

    Parameters
    ----------
    predictions
        As :func:`~groundglass.evaluate.predictions.read_predictions` gives them, labelled.
    evaluation
        Of its slices.
    """
    truth = truth_of(predictions)
    units = unit_codes(resampling_groups(predictions))
    patients = predictions["patient"]
    return HonestCard(
        auc=evaluation.metrics["roc_auc"],
        basis=f"{evaluation.confidence:.0%}, bootstrap over {evaluation.groups} {evaluation.resampled_by}s",
        unit=_unit(predictions),
        patients=patients.nunique() if (patients != "").all() else None,
        covid_units=len(np.unique(units[truth])),
        other_units=len(np.unique(units[~truth])),
    )


def honest_card(trial: Trial, evaluation: Evaluation, divided: pd.DataFrame, split: str) -> HonestCard:
    """All that stands beside the AUC of a detector.

    Parameters
    ----------
    trial
        The slices judged, from :meth:`Kept.trial`.
    evaluation
        Of these slices.
    divided
        The whole manifest that they are from, divided into parts where it is the detector's own.
    split
        How it was divided then.
    """
    facts = trial.detector.bundle.facts
    own = not trial.external
    return card_of_predictions(trial.predictions, evaluation).model_copy(
        update={
            "external": trial.external,
            "split": split if own else "",
            "part": trial.part,
            "torn": _torn(trial.material.manifest, divided) if own else None,
            "header": _header(trial, divided),
            "lungs_removed": _lungs_removed(trial),
            "elsewhere": external_aucs((*facts.evaluations, *facts.left_out), but=trial.material.name),
            "known": _known(trial),
        }
    )


def external_aucs(evaluations: Sequence[EvaluationFacts], but: str = "") -> tuple[Elsewhere, ...]:
    """The external AUCs in a bundle's facts, but for those on one dataset.

    Parameters
    ----------
    evaluations
        Those without an AUC are left out.
    but
        The dataset that is left out.
    """
    external = [
        (one.dataset, one.slices.metrics["roc_auc"])
        for one in evaluations
        if one.external and one.dataset != but and isinstance(one.slices, Evaluation)
    ]
    return tuple(Elsewhere(dataset=dataset, auc=auc) for dataset, auc in external if auc.value is not None)


def report_card(card: HonestCard) -> Card:
    """The card as a box of a report."""
    return Card(
        title="How far the AUC can be believed",
        grade=card.grade,
        meaning=MEANINGS[card.grade],
        reasons=card.reasons,
        rows=card.rows(),
        note="The grade is of the AUC, not of the detector. Its rules: docs/honest-numbers.md.",
    )


def _unit(predictions: pd.DataFrame) -> Unit:
    if (predictions["patient"] != "").all():
        return "patient"
    named = (resampling_groups(predictions) != "").mean()
    return "guessed group" if named >= MOSTLY else "slice"


def _torn(judged: pd.DataFrame, divided: pd.DataFrame) -> int:
    """Slices judged whose patient or named group is in the training or validation part as well."""
    others = divided[divided["split"].isin(["train", "val"]) & ~divided["path"].isin(judged["path"])]
    trained = set(named_groups(others)) - {""}
    return int(named_groups(judged).isin(trained).sum())


def _header(trial: Trial, divided: pd.DataFrame) -> Beside:
    """AUC of trees on headers: grown on the training part's where there is one apart, else cross-validated."""
    judged = trial.material.manifest
    apart = not trial.external and trial.part in ("val", "test")
    training = divided[divided["split"] == "train"] if apart else divided[:0]
    rows = pd.concat([training, judged], ignore_index=True)
    parts = np.repeat(["train", "test"], [len(training), len(judged)])
    material = Material(trial.material.name, rows, _UNSEEN)
    features, _ = header_features(material.headers.drop(columns=list(OF_BYTES)))
    try:
        tale = predict_label(features, material.truth, material.units, parts, material.seed, TREES)
    except NotApplicable as reason:
        return Beside(note=_clause(reason))
    if tale.held_out is not None:
        return Beside(auc=tale.held_out, note="by trees grown on the headers of the training part")
    return Beside(auc=tale.cross_validated, note=f"by trees, {tale.folds}-fold, groups kept together")


def _lungs_removed(trial: Trial) -> Beside:
    if trial.detector.bundle.facts.preprocessing.lungs != "none":
        return Beside(note=LUNGS_ALONE, applies=False)
    if trial.segmenter is None:
        return Beside(note=NO_LUNGS)
    try:
        whole, removed = lungs_removed_auc(trial)
    except NotApplicable as reason:
        return Beside(note=_clause(reason))
    count = len(places_with_lungs(trial))
    return Beside(auc=removed, note=f"on {count} slices with lungs, whole {format_estimate(whole)}")


def _known(trial: Trial) -> Known:
    material = trial.material
    try:
        result = SeenInTraining().run(trial)
    except NotApplicable:
        return Known(of=len(material.truth), note=NO_FINGERPRINTS)
    seen = np.isin(material.paths.astype(str), result.files)
    if not seen.any():
        return Known(slices=0, of=len(seen))
    left = ~np.isin(material.units, material.units[seen])
    score = trial.predictions["probability"].to_numpy(dtype=np.float64)
    without = (
        auc(material.truth[left], score[left], renumbered(material.units[left]), material.seed)
        if left.any()
        else Estimate(value=None)
    )
    return Known(slices=int(seen.sum()), of=len(seen), without=without)


def _clause(reason: NotApplicable) -> str:
    """A full sentence as a part of one."""
    sentence = str(reason).rstrip(".")
    return sentence[:1].lower() + sentence[1:]
