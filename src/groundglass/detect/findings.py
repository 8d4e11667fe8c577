"""Findings as tables and files: what a bundle says of scans, for other programs to read."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundglass import __version__
from groundglass.detect.facts import Answer, BundleFacts
from groundglass.detect.model_card import RESEARCH_USE
from groundglass.files import write_text
from groundglass.labels import POSITIVE

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("path", "patient", "score", "probability", "verdict", "heatmap", "warnings")
DIGITS = 6


@dataclass(frozen=True)
class Row:
    """One slice's answer as it is written; ``heatmap`` is relative to the findings' folder, "" for none."""

    path: str
    patient: str
    score: float
    probability: float
    verdict: str
    heatmap: str = ""
    warnings: str = ""


@dataclass(frozen=True)
class Failure:
    """A file that could not be read."""

    path: str
    problem: str
    remedy: str


def write_predictions_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write ``predictions.csv``, one row a slice, probabilities with six digits."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        numbers = {"score": f"{row.score:.{DIGITS}f}", "probability": f"{row.probability:.{DIGITS}f}"}
        writer.writerow({**asdict(row), **numbers})
    write_text(path, buffer.getvalue())


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
        },
        "summary": {
            "slices": len(rows),
            "covid": sum(row.verdict == POSITIVE for row in rows),
            "failed": len(failures),
        },
        "slices": [
            {**asdict(row), "score": round(row.score, DIGITS), "probability": round(row.probability, DIGITS)}
            for row in rows
        ],
        "failures": [asdict(failure) for failure in failures],
    }


def labelled_predictions(rows: "pd.DataFrame", answers: Sequence[Answer]) -> "pd.DataFrame":
    """Answers beside the labels that they are to be judged by: the input of groundglass.evaluate.

    Parameters
    ----------
    rows
        Manifest rows.
    answers
        One for each row, in order.

    Returns
    -------
    Columns ``path, patient, group, label, score, probability, verdict, split, source``.
    """
    from groundglass.data.splits import groups

    frame = rows[["path", "patient", "label", "split", "source"]].copy()
    units = groups(rows)
    # A group of one file is no group: left blank, it is told apart from a patient who has one slice.
    frame.insert(2, "group", units.where(units != rows["path"], "").to_numpy())
    for name in Answer._fields:
        frame[name] = [getattr(answer, name) for answer in answers]
    return frame
