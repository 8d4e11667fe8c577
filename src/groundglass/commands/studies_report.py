"""The page about many studies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundglass.commands.volume_report import LESIONS, uncertainty
from groundglass.detect.detector import Detector
from groundglass.detect.findings import Failure
from groundglass.labels import POSITIVE, UNCERTAIN
from groundglass.report.page import Link, Report, Table, bundle_table


def studies_report(
    rows: Sequence[Mapping[str, Any]], failures: Sequence[Failure], detector: Detector
) -> Report:
    """The page: every study with its answer, and what could not be read.

    ``rows`` are those of groundglass.commands.predict_volumes.PatientAnswers.
    """
    answered = [row for row in rows if not row["problem"]]
    positive = sum(row["verdict"] == POSITIVE for row in answered)
    uncertain = sum(row["verdict"] == UNCERTAIN for row in answered)
    failed = len(rows) - len(answered)
    ranked = sorted(
        answered, key=lambda row: -1 if row["probability"] is None else row["probability"], reverse=True
    )
    tables = [
        Table(
            "All studies, most probable first",
            ("study", "patient", "probability", "verdict", "lesions", "severity"),
            [_listed(row) for row in ranked],
        )
    ]
    if failures:
        reasons = [
            (Path(one.path).name, "; ".join(filter(None, (one.problem, one.remedy)))) for one in failures
        ]
        tables.append(Table("Not read, wholly or in part", ("file or folder", "reason"), reasons))
    return Report(
        title="COVID-19 on chest CT volumes",
        headline=f"{positive} of {len(answered)} studies: covid."
        + (f" {uncertain} are uncertain." if uncertain else "")
        + (f" {failed} could not be answered." if failed else ""),
        warnings=[LESIONS, *uncertainty(detector)],
        tables_title="Studies",
        figures_of_merit=tables,
        facts=[bundle_table(detector.bundle.facts)],
    )


def _listed(row: Mapping[str, Any]) -> tuple[str, ...]:
    share, probability = row["both_lesion_share"], row["probability"]
    return (
        Link(row["study"], f"{row['study']}/report.html"),
        row["patient"],
        "" if probability is None else f"{probability:.3f}",
        row["verdict"] + (f": {row['reason']}" if row["reason"] else ""),
        "" if share is None else f"{share:.1%}",
        row["severity"],
    )
