"""A bundle's findings on a slice: one class that serves everything from the network's logits to tables and
reports."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundglass import __version__
from groundglass.bundle.facts import RESEARCH_USE
from groundglass.errors import ScanError
from groundglass.files import write_csv
from groundglass.labels import (
    CLASS,
    CLASS_PREFIX,
    LESION_PROBABILITY,
    LUNG_AREAS,
    NOT_A_CHEST_CT,
    POSITIVE,
    UNCERTAIN,
)
from groundglass.preprocess import Box, Preprocessing
from groundglass.scan.scan import Scan
from groundglass.segment.masks import Segmentation
from groundglass.segment.notebook import as_html
from groundglass.segment.shares import lesions_in_words, type_shares

if TYPE_CHECKING:
    import pandas as pd

    from groundglass.detect.bundle import BundleFacts
    from groundglass.detect.setting import LikelihoodRatio

COLUMNS = (
    "path",
    "patient",
    "score",
    "probability",
    "verdict",
    "lesion_share",
    "reason",
    "heatmap",
    "warnings",
)
NUMBERS = ("score", "probability", "lesion_share")
DIGITS = 6
RATIO_PREFIX = "likelihood_ratio_"
"""Prefix of the likelihood ratios' columns, before the setting's name."""


class Findings(ABC):
    """A bundle's findings on a scan: a :class:`SliceFinding`, or a groundglass.detect.patient.PatientFinding.

    Attributes
    ----------
    probability
        The calibrated probability of COVID-19; None if the network was not run.
    verdict
        ``covid``, ``not covid``, ``uncertain`` or ``not a chest CT``.
    reason
        Why the verdict is ``uncertain`` or ``not a chest CT``; else "".
    likelihood_ratios
        How strongly the finding favours COVID-19 in each setting; empty if the bundle knows none.
    """

    probability: float | None
    verdict: str
    reason: str
    likelihood_ratios: "tuple[LikelihoodRatio, ...]"

    @property
    @abstractmethod
    def lesion_share(self) -> float | None:
        """The share of the lungs that is lesion, in [0, 1]; None if no lungs were found or looked for."""

    @property
    @abstractmethod
    def type_shares(self) -> dict[str, float]:
        """The shares of the lungs that are ground glass and consolidation, if the segmenter distinguishes them."""

    @abstractmethod
    def picture(self) -> Image.Image:
        """The scan with the findings drawn on it, in RGB; raises ValueError once the scan has been dropped."""

    @abstractmethod
    def _repr_html_(self) -> str:
        """The HTML that a notebook shows."""

    def headline(self) -> str:
        """The finding in one sentence, without a full stop."""
        if self.probability is None or self.verdict == NOT_A_CHEST_CT:
            return f"{self.verdict}: {self.reason}"
        reason = f" ({self.reason})" if self.reason else ""
        found = self.lesion_share
        share = "" if found is None else f"; {lesions_in_words(found, self.type_shares)}"
        return f"{self.verdict}{reason}: {self.strength()}{share}"

    def strength(self) -> str:
        """The strength of the evidence for COVID-19: the likelihood ratios, or else the probability, in words."""
        if not self.likelihood_ratios:
            return f"probability of COVID-19 {self.probability or 0:.2f}"
        return f"likelihood ratio of COVID-19 {'; '.join(str(ratio) for ratio in self.likelihood_ratios)}"

    def __repr__(self) -> str:
        answered = self.probability is not None and self.verdict != NOT_A_CHEST_CT
        shown = f"{self.verdict}: {self.strength()}" if answered else self.headline()
        return f"{type(self).__name__}({shown})"


@dataclass(frozen=True, eq=False)
class SliceView:
    """The data needed to draw a finding on its slice.

    Attributes
    ----------
    evidence
        float32, shape (rows, columns): the contribution of each place of the model's input to the logit; None
        if the model does not provide it.
    region
        The part of the slice that the model used.
    preprocessing
        The bundle's preprocessing.
    scan
        The slice; None once it has been dropped to save memory.
    segmentation
        Lungs and lesions; None if they were not looked for, or were dropped.
    """

    evidence: NDArray[np.float32] | None
    region: Box
    preprocessing: Preprocessing
    scan: Scan | None = None
    segmentation: Segmentation | None = None


@dataclass(frozen=True, repr=False)
class SliceFinding(Findings):
    """A bundle's findings on one slice, on its own or within a volume.

    Attributes
    ----------
    score
        Raw output of the network in [0, 1], 1 for COVID-19; None if no lungs were found.
    probability
        The score after calibration.
    verdict
        ``covid``, ``not covid`` or ``uncertain``; ``not a chest CT`` if lungs were looked for and not found.
    reason
        Why the verdict is ``uncertain`` or ``not a chest CT``, or why a slice of a volume has no answer; else "".
    probabilities
        Calibrated probabilities by class, if the bundle knows several classes; else empty.
    predicted_class
        The predicted class: ``covid`` if that is the verdict, "" if the verdict is ``uncertain`` or ``not a
        chest CT``, else the most probable of the other classes. Always "" if the bundle knows a single class.
    lungs_px, lesions_px
        Areas in pixels in the right and the left lung; 0 if no lungs were found or looked for.
    consolidation_px
        The consolidated part of the lesions, in pixels in the right and the left lung (the rest is ground
        glass); None if the segmenter does not distinguish them.
    path, patient, warnings, heatmap
        The file, the patient's id, the reader's warnings, and where the heatmap was written, relative to the
        findings; "" if there is none.
    number, height_mm
        In a volume: the slice's number, from 1 at the feet, and its position along the stack.
    counted
        In a volume: whether the slice shows enough lung to count for the patient.
    view
        The slice and the evidence, for drawing; None once dropped.
    lesion_probability
        The mean probability of lesion over the lungs, in [0, 1]; None if it is not known.
    likelihood_ratios
        See :class:`Findings`.
    withheld
        The network's answer to a picture that is not a chest CT. It is never shown; only evaluations and
        audits use it, because they assess the network.
    """

    score: float | None = None
    probability: float | None = None
    verdict: str = ""
    reason: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    predicted_class: str = ""
    lungs_px: tuple[int, int] = (0, 0)
    lesions_px: tuple[int, int] = (0, 0)
    consolidation_px: tuple[int, int] | None = None
    path: str = ""
    patient: str = ""
    warnings: str = ""
    heatmap: str = ""
    number: int = 0
    height_mm: float | None = None
    counted: bool = False
    view: SliceView | None = field(default=None, compare=False, repr=False)
    lesion_probability: float | None = None
    likelihood_ratios: "tuple[LikelihoodRatio, ...]" = ()
    withheld: "SliceFinding | None" = field(default=None, compare=False, repr=False)

    def refused(self, reason: str) -> "SliceFinding":
        """The finding for a picture that is not a chest CT: the file and the reason, without an answer."""
        return SliceFinding(
            verdict=NOT_A_CHEST_CT,
            reason=reason,
            path=self.path,
            patient=self.patient,
            warnings=self.warnings,
            view=self.view,
            withheld=replace(self, view=None),
        )

    @property
    def network(self) -> "SliceFinding":
        """The network's answer, even if it is withheld."""
        return self.withheld or self

    @property
    def lesion_share(self) -> float | None:
        """The share of the lungs that is lesion, in [0, 1]; None if no lungs were found or looked for."""
        lungs = sum(self.lungs_px)
        return sum(self.lesions_px) / lungs if lungs else None

    @property
    def type_shares(self) -> dict[str, float]:
        """The shares of the lungs that are ground glass and consolidation, if the segmenter distinguishes them."""
        solid = None if self.consolidation_px is None else sum(self.consolidation_px)
        return type_shares(sum(self.lungs_px), sum(self.lesions_px), solid)

    def picture(self) -> Image.Image:
        """The slice with the evidence for COVID-19 and, if there are masks, a second view with these, in RGB.

        Raises
        ------
        ValueError
            Once the slice has been dropped.
        """
        from groundglass.detect.heatmap import finding_picture

        return finding_picture(self)

    def _repr_html_(self) -> str:
        kept = self.view is not None and self.view.scan is not None
        warnings = (self.warnings,) if self.warnings else ()
        return as_html(self.headline(), self.picture() if kept else None, warnings=warnings)

    @property
    def scan(self) -> Scan:
        """The slice; raises ValueError once it has been dropped."""
        if self.view is None or self.view.scan is None:
            raise ValueError("the slice of this finding has been dropped from memory")
        return self.view.scan

    @property
    def evidence(self) -> NDArray[np.float32]:
        """See :class:`SliceView`; raises ValueError once dropped, or if there is none."""
        if self._view.evidence is None:
            raise ValueError("this model does not say which areas point to COVID-19")
        return self._view.evidence

    @property
    def has_evidence(self) -> bool:
        """Whether there is evidence to draw a heatmap from."""
        return self.view is not None and self.view.evidence is not None

    @property
    def region(self) -> Box:
        """See :class:`SliceView`; raises ValueError once dropped."""
        return self._view.region

    @property
    def preprocessing(self) -> Preprocessing:
        """See :class:`SliceView`; raises ValueError once dropped."""
        return self._view.preprocessing

    @property
    def segmentation(self) -> Segmentation | None:
        """See :class:`SliceView`; None once dropped."""
        return self.view.segmentation if self.view is not None else None

    @property
    def _view(self) -> SliceView:
        if self.view is None:
            raise ValueError("the evidence of this finding has been dropped from memory")
        return self.view

    def without_pixels(self) -> "SliceFinding":
        """The finding without the slice and its masks, which need most of the memory; the evidence is kept."""
        return replace(self, view=SliceView(self._view.evidence, self.region, self.preprocessing))

    def with_evidence(self, evidence: NDArray[np.float32]) -> "SliceFinding":
        """The finding with different evidence, to compare heatmaps."""
        return replace(self, view=replace(self._view, evidence=evidence))

    def with_pixels(self, scan: Scan) -> "SliceFinding":
        """The finding with its slice, read again."""
        return replace(self, view=replace(self._view, scan=scan))

    def numbers(self) -> dict[str, float | None]:
        """All values that are written with six digits, by column."""
        by_class = {CLASS_PREFIX + name: value for name, value in self.probabilities.items()}
        ratios = {RATIO_PREFIX + one.setting: one.ratio for one in self.likelihood_ratios}
        return {name: getattr(self, name) for name in NUMBERS} | by_class | ratios | self.type_shares


@dataclass(frozen=True)
class Failure:
    """A file that could not be read."""

    path: str
    problem: str
    remedy: str

    @classmethod
    def of(cls, error: ScanError) -> "Failure":
        """The failure that an error describes."""
        return cls(str(error.path), error.problem, error.remedy)


def write_predictions_csv(path: Path, findings: Sequence[SliceFinding]) -> None:
    """Write ``predictions.csv``, one row per slice, numbers with six digits."""
    more = [CLASS] if any(one.probabilities for one in findings) else []
    more += dict.fromkeys(name for one in findings for name in one.numbers() if name not in COLUMNS)
    rows = (
        {name: getattr(one, name) for name in COLUMNS}
        | {CLASS: one.predicted_class}
        | {name: _digits(value) for name, value in one.numbers().items()}
        for one in findings
    )
    write_csv(path, (*COLUMNS, *more), rows)


def _digits(number: float | None) -> str:
    return "" if number is None else f"{number:.{DIGITS}f}"


def findings_document(
    facts: "BundleFacts", findings: Sequence[SliceFinding], failures: Sequence["Failure"]
) -> dict[str, Any]:
    """The content of ``findings.json``: the bundle, a summary, every slice, and the unreadable files."""
    return {
        "groundglass": __version__,
        "research_use": RESEARCH_USE,
        "positive_class": POSITIVE,
        "bundle": {
            "name": facts.name,
            "graph_sha256": facts.graph_sha256,
            **({"setting": facts.setting} if facts.setting else {}),
            "temperature": facts.temperature,
            "threshold": facts.threshold,
            "trained_on": facts.training.dataset,
            **({"classes": list(facts.classes)} if facts.classes else {}),
            **_calibrated(facts),
        },
        "summary": {
            "slices": len(findings),
            "covid": sum(one.verdict == POSITIVE for one in findings),
            "uncertain": sum(one.verdict == UNCERTAIN for one in findings),
            "not_a_chest_ct": sum(one.verdict == NOT_A_CHEST_CT for one in findings),
            "failed": len(failures),
        },
        "slices": [_slice(one) for one in findings],
        "failures": [asdict(failure) for failure in failures],
    }


def _calibrated(facts: "BundleFacts") -> dict[str, Any]:
    """Everything else that the verdict depends on, if the bundle has it."""
    abstention = facts.abstention
    known = {
        "bias": facts.bias or None,
        "uncertain": abstention and abstention.model_dump(include={"covid_from", "other_to", "coverage"}),
    }
    return {name: value for name, value in known.items() if value is not None}


def _slice(finding: SliceFinding) -> dict[str, Any]:
    content = {name: getattr(finding, name) for name in COLUMNS}
    content |= {name: _rounded(content[name]) for name in NUMBERS}
    if finding.probabilities:
        rounded = {name: _rounded(value) for name, value in finding.probabilities.items()}
        content |= {CLASS: finding.predicted_class, "probabilities": rounded}
    if finding.likelihood_ratios:
        content["likelihood_ratios"] = [ratio.to_dict() for ratio in finding.likelihood_ratios]
    return content | {name: _rounded(share) for name, share in finding.type_shares.items()}


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, DIGITS)


def labelled_predictions(
    rows: "pd.DataFrame",
    findings: Sequence[SliceFinding],
    classes: Sequence[str] = (),
    *,
    lungs: bool = False,
) -> "pd.DataFrame":
    """Findings with the labels they are compared with: the input of groundglass.evaluation.

    Parameters
    ----------
    rows
        Manifest rows.
    findings
        One per row, in the same order.
    classes
        The detector's classes, if it knows several.
    lungs
        Whether lungs were looked for.

    Returns
    -------
    Columns ``path, patient, group, label, score, probability, verdict, split, source``; with ``lungs`` also
    ``lesion_share``, ``lesion_probability`` and ``LUNG_AREAS``, in pixels, 0 where no lung was found, which
    the patient rule needs. With several classes there are also ``class`` and ``probability_NAME``.
    """
    from groundglass.data.splits import groups

    frame = rows[["path", "patient", "label", "split", "source"]].copy()
    units = groups(rows)
    # A group with a single file is left blank, to distinguish it from a patient with one slice.
    frame.insert(2, "group", units.where(units != rows["path"], "").to_numpy())
    frame["score"] = [one.network.score for one in findings]
    frame["probability"] = [one.network.probability for one in findings]
    frame["verdict"] = [one.verdict for one in findings]
    if lungs:
        frame["lesion_share"] = [_digits(one.lesion_share) for one in findings]
        areas = [(*one.lungs_px, *one.lesions_px) for one in findings]
        frame[LESION_PROBABILITY] = [_digits(one.lesion_probability) for one in findings]
        frame[list(LUNG_AREAS)] = np.array(areas, dtype=np.int64).reshape(-1, len(LUNG_AREAS))
    if classes:
        frame[CLASS] = [one.predicted_class for one in findings]
        for name in classes:
            frame[CLASS_PREFIX + name] = [one.network.probabilities[name] for one in findings]
    return frame
