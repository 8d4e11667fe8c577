"""Measure how far an AUC can be trusted, from data collected while the detector runs, so that no slice is
read twice."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.check import NotApplicable
from groundglass.audit.data.label_from_metadata import OF_BYTES, TREES
from groundglass.audit.detector.lungs import with_lungs_removed
from groundglass.audit.detector.seen_in_training import SeenInTraining
from groundglass.audit.headers import header_features
from groundglass.audit.label_prediction import predict_label
from groundglass.audit.material import SIDE, Material, SmallPictures, small_picture
from groundglass.audit.measures import auc, renumbered
from groundglass.audit.trial import Trial
from groundglass.audit.trust import ExternalAuc, ReferenceAuc, SeenSlices, TrustCard, Unit
from groundglass.bundle.evaluation import Estimate, Evaluation, format_estimate
from groundglass.bundle.facts import EvaluationFacts
from groundglass.data.splits import named_groups
from groundglass.detect.detector import Detector
from groundglass.detect.findings import SliceFinding
from groundglass.evaluation.metrics import resampling_groups
from groundglass.evaluation.predictions import truth_of, unit_codes
from groundglass.preprocess import Preprocessing
from groundglass.scan.scan import Scan
from groundglass.segment.masks import Segmentation

NO_LUNGS = "the lungs were not segmented"
LUNGS_ALONE = "the detector is shown only the lungs"
NO_FINGERPRINTS = "the bundle holds no fingerprints of its training data"
MOSTLY = 0.5
"""Groups count as known if at least this share of the slices names a patient or a group."""
_NOWHERE = np.zeros((0, SIDE, SIDE), dtype=bool)
_UNSEEN = SmallPictures(_NOWHERE.astype(np.uint8), _NOWHERE, _NOWHERE, ())
"""Placeholder for material whose pictures are not needed."""


class SliceCollector:
    """Collects what the measurements need from each slice while a detector answers.

    Parameters
    ----------
    detector
        The detector; lungs can only be removed if it looks for them.
    name
        The dataset's name.
    rows
        Manifest rows of all slices that the detector is asked about.
    external, part
        As in :class:`~groundglass.audit.trial.Trial`.
    """

    def __init__(
        self, detector: Detector, name: str, rows: pd.DataFrame, *, external: bool | None, part: str
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

    def add(self, place: int, finding: SliceFinding) -> None:
        """Store the required parts of the finding for the slice in this row; call this in the order of the rows."""
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
        """The answered slices, in the form that the checks of a detector use.

        Parameters
        ----------
        predictions
            The answers, in the order in which they were added.
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


def trust_of_predictions(predictions: pd.DataFrame, evaluation: Evaluation) -> TrustCard:
    """The trust card of a table of predictions alone; everything else is unknown.

    Parameters
    ----------
    predictions
        As :func:`~groundglass.evaluation.predictions.read_predictions` returns them, labelled.
    evaluation
        The evaluation of its slices.
    """
    truth = truth_of(predictions)
    units = unit_codes(resampling_groups(predictions))
    patients = predictions["patient"]
    sources, one_sided = _sources(predictions, truth)
    return TrustCard(
        auc=evaluation.metrics["roc_auc"],
        basis=f"{evaluation.confidence:.0%}, bootstrap over {evaluation.groups} {evaluation.resampled_by}s",
        unit=_unit(predictions),
        patients=patients.nunique() if (patients != "").all() else None,
        sources=sources,
        one_sided=one_sided,
        covid_units=len(np.unique(units[truth])),
        other_units=len(np.unique(units[~truth])),
    )


def trust_card(trial: Trial, evaluation: Evaluation, divided: pd.DataFrame, split: str) -> TrustCard:
    """The trust card of a detector's AUC.

    Parameters
    ----------
    trial
        The evaluated slices, from :meth:`SliceCollector.trial`.
    evaluation
        The evaluation of these slices.
    divided
        The whole manifest they come from, with its split if it is the detector's own dataset.
    split
        How that dataset was split.
    """
    facts = trial.detector.bundle.facts
    own = trial.external is False
    return trust_of_predictions(trial.predictions, evaluation).model_copy(
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


def external_aucs(evaluations: Sequence[EvaluationFacts], but: str = "") -> tuple[ExternalAuc, ...]:
    """The external AUCs in a bundle's facts, except those on one dataset.

    Parameters
    ----------
    evaluations
        Evaluations without an AUC are left out.
    but
        The dataset to leave out.
    """
    external = [
        (one.dataset, one.slices.metrics["roc_auc"])
        for one in evaluations
        if one.external and one.dataset != but and isinstance(one.slices, Evaluation)
    ]
    return tuple(ExternalAuc(dataset=dataset, auc=auc) for dataset, auc in external if auc.value is not None)


def _unit(predictions: pd.DataFrame) -> Unit:
    if (predictions["patient"] != "").all():
        return "patient"
    named = (resampling_groups(predictions) != "").mean()
    return "guessed group" if named >= MOSTLY else "slice"


def _sources(predictions: pd.DataFrame, truth: NDArray[np.bool_]) -> tuple[int | None, bool]:
    """The number of sources, None if they are not all known, and whether each of several has one class only."""
    if "source" not in predictions or (predictions["source"] == "").any():
        return None, False
    classes = pd.Series(truth).groupby(predictions["source"].to_numpy()).nunique()
    return len(classes), len(classes) > 1 and bool((classes == 1).all()) and len(set(truth)) == 2


def _torn(judged: pd.DataFrame, divided: pd.DataFrame) -> int:
    """How many evaluated slices have a patient or named group in the training or validation set as well."""
    others = divided[divided["split"].isin(["train", "val"]) & ~divided["path"].isin(judged["path"])]
    trained = set(named_groups(others)) - {""}
    return int(named_groups(judged).isin(trained).sum())


def _header(trial: Trial, divided: pd.DataFrame) -> ReferenceAuc:
    """AUC of trees on headers: trained on a separate training set if there is one, else cross-validated."""
    judged = trial.material.manifest
    apart = trial.external is False and trial.part in ("val", "test")
    training = divided[divided["split"] == "train"] if apart else divided[:0]
    rows = pd.concat([training, judged], ignore_index=True)
    parts = np.repeat(["train", "test"], [len(training), len(judged)])
    material = Material(trial.material.name, rows, _UNSEEN)
    features, _ = header_features(material.headers.drop(columns=list(OF_BYTES)))
    try:
        tale = predict_label(features, material.truth, material.units, parts, material.seed, TREES)
    except NotApplicable as reason:
        return ReferenceAuc(note=_clause(reason))
    if tale.held_out is not None:
        return ReferenceAuc(auc=tale.held_out, note="by trees trained on the headers of the training set")
    return ReferenceAuc(auc=tale.cross_validated, note=f"by trees, {tale.folds}-fold, groups kept together")


def _lungs_removed(trial: Trial) -> ReferenceAuc:
    if trial.detector.bundle.facts.preprocessing.lungs != "none":
        return ReferenceAuc(note=LUNGS_ALONE, applies=False)
    if trial.segmenter is None:
        return ReferenceAuc(note=NO_LUNGS)
    try:
        changed = with_lungs_removed(trial)
    except NotApplicable as reason:
        return ReferenceAuc(note=_clause(reason))
    whole, removed = changed.aucs(trial.material.seed)
    count = len(changed.places)
    return ReferenceAuc(auc=removed, note=f"on {count} slices with lungs, unchanged {format_estimate(whole)}")


def _known(trial: Trial) -> SeenSlices:
    material = trial.material
    try:
        result = SeenInTraining().run(trial)
    except NotApplicable:
        return SeenSlices(of=len(material.truth), note=NO_FINGERPRINTS)
    seen = np.isin(material.paths.astype(str), result.files)
    if not seen.any():
        return SeenSlices(slices=0, of=len(seen))
    left = ~np.isin(material.units, material.units[seen])
    score = trial.predictions["probability"].to_numpy(dtype=np.float64)
    without = (
        auc(material.truth[left], score[left], renumbered(material.units[left]), material.seed)
        if left.any()
        else Estimate(value=None)
    )
    return SeenSlices(slices=int(seen.sum()), of=len(seen), without=without)


def _clause(reason: NotApplicable) -> str:
    """A full sentence as a clause."""
    sentence = str(reason).rstrip(".")
    return sentence[:1].lower() + sentence[1:]
