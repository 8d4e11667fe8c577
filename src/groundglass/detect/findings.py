"""Findings as tables and files: what a bundle says of scans, for other programs to read."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from groundglass import __version__
from groundglass.bundle.facts import RESEARCH_USE
from groundglass.detect.bundle import Answer, BundleFacts
from groundglass.errors import ScanError
from groundglass.files import write_text
from groundglass.labels import (
    CLASS,
    CLASS_PREFIX,
    LUNG_AREAS,
    NOT_A_CHEST_CT,
    POSITIVE,
    UNCERTAIN,
    UNLIKE,
)
from groundglass.segment.masks import Segmentation
from groundglass.segment.shares import shares

if TYPE_CHECKING:
    import pandas as pd

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


@dataclass(frozen=True)
class Row:
    """One slice's answer as it is written.

    ``lesion_share`` is that of the lungs, in [0, 1], None where no lungs were looked for or found; ``reason`` is
    why a slice is uncertain or no chest CT; ``heatmap`` is relative to the findings' folder, "" for none.
    ``probabilities`` and ``answered`` are of a detector of several classes.
    """

    path: str
    patient: str
    score: float
    probability: float
    verdict: str
    lesion_share: float | None = None
    reason: str = ""
    heatmap: str = ""
    warnings: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    answered: str = ""

    def numbers(self) -> dict[str, float | None]:
        """All that is written with six digits."""
        return {name: getattr(self, name) for name in NUMBERS} | by_class(self.probabilities)


def by_class(probabilities: Mapping[str, float]) -> dict[str, float]:
    """Probabilities of classes by the names of their columns."""
    return {CLASS_PREFIX + name: value for name, value in probabilities.items()}


@dataclass(frozen=True)
class Failure:
    """A file that could not be read."""

    path: str
    problem: str
    remedy: str

    @classmethod
    def of(cls, error: ScanError) -> "Failure":
        """What an error says."""
        return cls(str(error.path), error.problem, error.remedy)


def write_predictions_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write ``predictions.csv``, one row a slice, probabilities with six digits."""
    several = (CLASS, *by_class(rows[0].probabilities)) if rows and rows[0].probabilities else ()
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, (*COLUMNS, *several), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        numbers = {name: _digits(value) for name, value in row.numbers().items()}
        writer.writerow({**asdict(row), CLASS: row.answered, **numbers})
    write_text(path, buffer.getvalue())


def _digits(number: float | None) -> str:
    return "" if number is None else f"{number:.{DIGITS}f}"


def findings_document(facts: BundleFacts, rows: Sequence[Row], failures: Sequence[Failure]) -> dict[str, Any]:
    """The content of ``findings.json``: who answered, the slices, what could not be read, the sum."""
    return {
        "groundglass": __version__,
        "research_use": RESEARCH_USE,
        "positive_class": POSITIVE,
        "bundle": {
            "name": facts.name,
            "graph_sha256": facts.graph_sha256,
            "temperature": facts.temperature,
            "threshold": facts.threshold,
            "trained_on": facts.training.dataset,
            **({"classes": list(facts.classes)} if facts.classes else {}),
            **_calibrated(facts),
        },
        "summary": {
            "slices": len(rows),
            "covid": sum(row.verdict == POSITIVE for row in rows),
            "uncertain": sum(row.verdict == UNCERTAIN for row in rows),
            "not_a_chest_ct": sum(row.verdict == NOT_A_CHEST_CT for row in rows),
            "failed": len(failures),
        },
        "slices": [_slice(row) for row in rows],
        "failures": [asdict(failure) for failure in failures],
    }


def _calibrated(facts: BundleFacts) -> dict[str, Any]:
    """What decides beside temperature and threshold, where the bundle has it."""
    abstention = facts.abstention
    known = {
        "bias": facts.bias or None,
        "uncertain": abstention and abstention.model_dump(include={"covid_from", "other_to", "coverage"}),
        "furthest": facts.furthest,
    }
    return {name: value for name, value in known.items() if value is not None}


def _slice(row: Row) -> dict[str, Any]:
    content = {name: getattr(row, name) for name in COLUMNS}
    content |= {name: _rounded(content[name]) for name in NUMBERS}
    if row.probabilities:
        rounded = {name: _rounded(value) for name, value in row.probabilities.items()}
        content |= {CLASS: row.answered, "probabilities": rounded}
    return content


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, DIGITS)


def labelled_predictions(
    rows: "pd.DataFrame",
    answers: Sequence[Answer],
    classes: Sequence[str] = (),
    segmentations: Sequence[Segmentation] | None = None,
    unlike: Sequence[bool] | None = None,
) -> "pd.DataFrame":
    """Answers beside the labels that they are to be judged by: the input of groundglass.evaluate.

    Parameters
    ----------
    rows
        Manifest rows.
    answers
        One for each row, in order.
    classes
        Those of the detector, where it knows several.
    segmentations
        The lungs and lesions of each row; None if they were not looked for.
    unlike
        Whether each row is unlike what the detector was trained on; None if that is not known.

    Returns
    -------
    Columns ``path, patient, group, label, score, probability, verdict, split, source``; with ``segmentations``
    also ``lesion_share`` and what the patient rule needs (``LUNG_AREAS``, in pixels, 0 where no lung was found, and
    ``unlike``); with several classes also ``class`` and ``probability_NAME``.
    """
    from groundglass.data.splits import groups

    frame = rows[["path", "patient", "label", "split", "source"]].copy()
    units = groups(rows)
    # A group of one file is no group: left blank, it is told apart from a patient who has one slice.
    frame.insert(2, "group", units.where(units != rows["path"], "").to_numpy())
    for name in ("score", "probability", "verdict"):
        frame[name] = [getattr(answer, name) for answer in answers]
    if segmentations is not None:
        measured = [shares(one) if one.found else None for one in segmentations]
        frame["lesion_share"] = [_digits(one.both.lesion_share if one else None) for one in measured]
        sides = [(one.right, one.left) if one else () for one in measured]
        areas = [
            [s.lung_px for s in of] + [s.lesions_px for s in of] or [0] * len(LUNG_AREAS) for of in sides
        ]
        frame[list(LUNG_AREAS)] = np.array(areas, dtype=np.int64).reshape(-1, len(LUNG_AREAS))
    if unlike is not None:
        frame[UNLIKE] = np.asarray(unlike, dtype=np.int64)
    if classes:
        frame[CLASS] = [answer.answered for answer in answers]
        for number, name in enumerate(classes):
            frame[CLASS_PREFIX + name] = [answer.probabilities[number] for answer in answers]
    return frame
