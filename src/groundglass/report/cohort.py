"""The report of a cohort: verdicts, lesions, severity, warnings and failures of all studies, and a page of times.

The report contains no times or machines, so that the same studies give the same page, regardless of the
number of workers and the order in which they ran.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from groundglass.detect.detector import Detector
from groundglass.detect.findings import Failure
from groundglass.detect.volume import segmenter_of
from groundglass.errors import count_of
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE, UNCERTAIN
from groundglass.report.page import Chart, Link, Report, Table, bundle_table, made_by_rows
from groundglass.report.volume import LESIONS, uncertainty

LISTED = 5000
"""Number of studies listed on the page; patients.csv has them all."""
VERDICTS = (POSITIVE, UNCERTAIN, NEGATIVE, NOT_A_CHEST_CT)
NO_BAND = "no band"
SHARES = (0.0025, 0.05, 0.25, 0.5, 0.75)
"""Limits of the classes of lesion share: those of the severity bands, and 5%."""
VOLUMES = (1, 10, 50, 200, 500)
"""Limits of the classes of lesion volumes, in ml."""
AMOUNTS = {
    "both_lung_ml": "lungs, ml",
    "both_lesion_ml": "lesions, ml",
    "both_ground_glass_ml": "ground glass, ml",
    "both_consolidation_ml": "consolidation, ml",
}
"""Columns of patients.csv, and their headings in the report."""
Row = Mapping[str, Any]


def cohort_report(rows: Sequence[Row], failures: Sequence[Failure], detector: Detector) -> Report:
    """The page about all studies.

    Parameters
    ----------
    rows, failures
        The rows and failures of groundglass.commands.predict_volumes.PatientAnswers.
    detector
        The detector that answered.
    """
    answered = [row for row in rows if not row["problem"]]
    counts = Counter(row["verdict"] for row in answered)
    failed = len(rows) - len(answered)
    return Report(
        title="COVID-19 on chest CT volumes",
        headline=f"{counts[POSITIVE]} of {len(answered)} studies: covid."
        + (f" Uncertain: {counts[UNCERTAIN]}." if counts[UNCERTAIN] else "")
        + (f" {failed} could not be answered." if failed else ""),
        warnings=[LESIONS, *uncertainty(detector.bundle.facts)],
        charts=_charts(answered),
        tables_title="Studies",
        figures_of_merit=[
            _amounts(answered),
            *_counted("Warnings", "warning", (one for row in answered for one in _warnings(row))),
            *_counted("Failures by reason", "reason", (one.problem for one in failures)),
            _listed(answered),
            *_unread(failures),
        ],
        facts=[_about(rows), bundle_table(detector.bundle.facts)],
    )


def _charts(rows: Sequence[Row]) -> list[Chart]:
    verdicts = Counter(row["verdict"] for row in rows)
    chests = [row for row in rows if row["verdict"] != NOT_A_CHEST_CT]
    bands = Counter(row["severity"] or NO_BAND for row in chests)
    in_order = sorted(bands, key=lambda band: (band == NO_BAND, band))
    limits = [f"{limit:.4g}%" for limit in (100 * share for share in SHARES)]
    charts = [
        Chart("Verdicts, studies", [(verdict, verdicts[verdict]) for verdict in VERDICTS]),
        Chart("Severity bands, studies", [(band, bands[band]) for band in in_order]),
        Chart(
            "Share of the lungs that is lesion, studies",
            _classes(chests, "both_lesion_share", SHARES, limits),
        ),
        Chart(
            "Volume of lesions, studies",
            _classes(chests, "both_lesion_ml", VOLUMES, [f"{limit} ml" for limit in VOLUMES]),
        ),
    ]
    types = {name: [row[name] for row in chests if row.get(name) not in (None, "")] for name in AMOUNTS}
    typed = [(AMOUNTS[name], sum(types[name])) for name in tuple(AMOUNTS)[2:] if types[name]]
    if typed:
        charts.append(Chart("Lesions by type, all studies together", typed))
    return [chart for chart in charts if chart.bars]


def _classes(
    rows: Sequence[Row], column: str, limits: Sequence[float], words: Sequence[str]
) -> list[tuple[str, float]]:
    """The number of rows with a value up to each limit, and above the last."""
    values = [row[column] for row in rows if row[column] is not None]
    names = [f"up to {words[0]}", *(f"to {word}" for word in words[1:]), f"over {words[-1]}"]
    counts = Counter(sum(value > limit for limit in limits) for value in values)
    return [(name, counts[place]) for place, name in enumerate(names)] if values else []


def _amounts(rows: Sequence[Row]) -> Table:
    """Volumes by verdict."""
    shown = [name for name in AMOUNTS if any(row.get(name) not in (None, "") for row in rows)]
    cells = [
        (
            verdict,
            str(len(of_one)),
            *(_spread([row[name] for row in of_one if row[name] not in (None, "")]) for name in shown),
        )
        for verdict in VERDICTS
        if (of_one := [row for row in rows if row["verdict"] == verdict])
    ]
    header = ("verdict", "studies", *(AMOUNTS[name] for name in shown))
    return Table("Volumes by verdict", header, cells, "The median, and the quartiles in brackets.")


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.0f}"
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"


def _warnings(row: Row) -> list[str]:
    return [one for one in row["warnings"].split("; ") if one]


def _counted(title: str, what: str, texts: Iterable[str]) -> list[Table]:
    """How often each text occurs, ignoring numbers in it; no table if there are none."""
    counts = Counter(re.sub(r"-?\d+(\.\d+)?", "…", text) for text in texts)
    rows = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return [Table(title, (what, "how often"), [(text, str(count)) for text, count in rows])] if rows else []


def _listed(rows: Sequence[Row]) -> Table:
    ranked = sorted(
        rows, key=lambda row: -1 if row["probability"] is None else row["probability"], reverse=True
    )
    amounts = [name for name in AMOUNTS if any(row.get(name) not in (None, "") for row in rows)]
    header = ("study", "patient", "probability", "verdict", "lesions", *(AMOUNTS[name] for name in amounts))
    more = f"{len(rows) - LISTED} more are in patients.csv." if len(rows) > LISTED else ""
    note = "Click on a heading to sort by it."
    return Table(
        "All studies, most probable first",
        (*header, "severity", "warnings", "reason"),
        [_cells(row, amounts) for row in ranked[:LISTED]],
        f"{more} {note}".strip(),
    )


def _cells(row: Row, amounts: Sequence[str]) -> tuple[str, ...]:
    share, probability = row["both_lesion_share"], row["probability"]
    return (
        Link(row["study"], f"{row['study']}/report.html"),
        row["patient"],
        "" if probability is None else f"{probability:.3f}",
        row["verdict"],
        "" if share is None else f"{share:.1%}",
        *("" if row[name] in (None, "") else f"{row[name]:.0f}" for name in amounts),
        row["severity"],
        str(len(_warnings(row)) or ""),
        row["reason"].partition(":")[0],
    )


def _unread(failures: Sequence[Failure]) -> list[Table]:
    if not failures:
        return []
    reasons = [
        (Path(one.path).name, "; ".join(filter(None, (one.problem, one.remedy)))) for one in failures[:LISTED]
    ]
    return [Table("Not read, or only in part", ("file or folder", "reason"), reasons)]


def _about(rows: Sequence[Row]) -> Table:
    tables = [(what, Link(name, name)) for what, name in (("Table", "patients.csv"), ("Times", "times.html"))]
    return Table("About this report", (), [("Studies", str(len(rows))), *tables])


def times_report(seconds: Mapping[str, Mapping[str, float]], detector: Detector) -> Report:
    """The page about ``seconds``, by study and stage of groundglass.commands.study.STAGES."""
    by_stage: dict[str, list[float]] = {}
    for one in seconds.values():
        for stage, value in one.items():
            by_stage.setdefault(stage, []).append(value)
    rows = [
        (stage, *(f"{value:.2f}" for value in (sum(values), median(values), _most(values), max(values))))
        for stage, values in by_stage.items()
    ]
    each = [one["answer"] + one["write"] for one in seconds.values()]
    headline = count_of(len(each), "study", "studies")
    headline += f", {median(each):.1f} s each in the median." if each else "."
    networks = [detector.bundle.facts, segmenter_of(detector).bundle.facts]
    return Report(
        title="How long the studies took",
        headline=headline,
        charts=[
            Chart(
                "All studies together, seconds", [(stage, sum(values)) for stage, values in by_stage.items()]
            )
        ],
        tables_title="Time by stage",
        figures_of_merit=[
            Table(
                "",
                ("stage", "all, s", "median, s", "95th percentile, s", "longest, s"),
                rows,
                "read: ordering and decoding the slices, summed over threads. It overlaps with the "
                "networks' work and is part of answer. write: masks, DICOM results and the report. cpu: "
                "processor time of all stages. times.csv has each study.",
            )
        ],
        facts=[Table("About this report", (), made_by_rows(*networks))],
    )


def _most(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return values[0] if len(values) == 1 else quantiles(values, n=20, method="inclusive")[-1]
