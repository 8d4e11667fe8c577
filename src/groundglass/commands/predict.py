"""``groundglass predict``: run a detector on files, and write the findings."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from groundglass.detect.bundle import BundleFacts
from groundglass.detect.detector import Detector
from groundglass.detect.findings import Failure, SliceFinding, findings_document, write_predictions_csv
from groundglass.detect.heatmap import heatmap
from groundglass.errors import ScanError, count_of
from groundglass.files import replacing, unique_names, write_json
from groundglass.labels import NOT_A_CHEST_CT, POSITIVE, UNCERTAIN
from groundglass.progress import track
from groundglass.report.page import Report, SliceCard, Table, bundle_table, made_by_rows, write_report
from groundglass.report.pdf import PDF, ROWS, write_pdf
from groundglass.report.slices import slice_card
from groundglass.scan.read import read_scan
from groundglass.scan.volume import mark_results
from groundglass.segment.segmenter import read_ahead
from groundglass.segment.shares import TYPE_COLUMNS, TYPE_NAMES, percent

BESIDE = "Left: the slice. Right: the areas that point to COVID-19, on the same scale for all slices."
SHOWN = 60
"""Slices that the report shows with their pictures."""
LISTED = 1000
"""Slices that the report lists; predictions.csv has them all."""


@dataclass(frozen=True)
class Prediction:
    """The result of a prediction.

    Attributes
    ----------
    rows
        One per slice.
    failures
        The files that could not be read.
    document
        The content of ``findings.json``.
    """

    rows: list[SliceFinding]
    failures: list[Failure]
    document: dict[str, Any]


def predict(
    files: Sequence[Path],
    folder: Path | None,
    *,
    detector: Detector,
    heatmaps: bool = True,
    pdf: bool = False,
    title: str = "",
    unread: Sequence[ScanError] = (),
    answered: Callable[[Prediction], object] | None = None,
) -> Prediction:
    """Run a detector on files.

    Parameters
    ----------
    files
        The files to read, as groundglass.scan.find.find_scans lists them.
    folder
        Where to write ``predictions.csv``, ``findings.json``, ``report.html`` and ``heatmaps/``; None writes
        nothing.
    detector
        The detector.
    heatmaps
        Draw the evidence over each slice.
    pdf
        Also write ``report.pdf``, the report in two pages.
    title
        The report's title.
    unread
        Files whose reading already failed, to be listed among the failures.
    answered
        Called with the answers once they are written, before heatmaps and the report are drawn.

    Returns
    -------
    The answers; a file that cannot be read is listed in ``failures``, and the remaining files are still answered.
    """
    names = unique_names(files) if heatmaps and folder else {}
    rows: list[SliceFinding] = []
    failures = [Failure.of(error) for error in unread]
    for path, finding in track(detector.predict_files(files), "Reading slices", len(files)):
        if isinstance(finding, ScanError):
            failures.append(Failure.of(finding))
            continue
        drawn = names and finding.probability is not None and finding.has_evidence
        picture = f"heatmaps/{names[path]}.png" if drawn else ""
        rows.append(replace(finding.without_pixels(), path=str(path), heatmap=picture))
    document = findings_document(detector.bundle.facts, rows, failures)
    prediction = Prediction([replace(row, view=None) for row in rows], failures, document)
    if folder:
        write_predictions_csv(folder / "predictions.csv", rows)
        write_json(folder / "findings.json", document)
    if answered:
        answered(prediction)
    if folder:
        ranked = sorted(
            rows, key=lambda row: -1 if row.probability is None else row.probability, reverse=True
        )
        if heatmaps:
            _draw(rows, folder)
        cards = _cards(ranked[:SHOWN]) if heatmaps else []
        report = _report(detector, ranked, cards, failures, title or "COVID-19 on chest CT slices")
        write_report(report, folder / "report.html")
        if pdf:
            tables = _tables(detector, ranked, failures, ROWS)
            write_pdf(replace(report, tables_title="Slices", figures_of_merit=tables), folder / PDF)
    return prediction


def _draw(rows: Sequence[SliceFinding], folder: Path) -> None:
    """Write the heatmaps; the slices are read again, since keeping them all would take too much memory."""
    drawable = [row for row in rows if row.heatmap]
    if not drawable:
        return
    mark_results(folder / "heatmaps")

    def draw(row: SliceFinding) -> None:
        with suppress(ScanError):  # the file has disappeared in the meantime
            image = heatmap(row.with_pixels(read_scan(Path(row.path))))
            with replacing(folder / row.heatmap, "wb") as handle:
                image.save(handle, "PNG", compress_level=1)

    with ThreadPoolExecutor(2) as pool:
        for _ in track(pool.map(draw, drawable), "Drawing heatmaps", len(drawable)):
            pass


def _cards(rows: Sequence[SliceFinding]) -> list[SliceCard]:
    """The slices as the report shows them; a file that has disappeared in the meantime is left out."""
    read = read_ahead(rows, lambda row: read_scan(Path(row.path)))
    return [slice_card(row.with_pixels(scan)) for row, scan in read if not isinstance(scan, ScanError)]


def _report(
    detector: Detector,
    rows: Sequence[SliceFinding],
    cards: list[SliceCard],
    failures: Sequence[Failure],
    title: str,
) -> Report:
    """The page; ``rows`` are those of all slices, the most probable first."""
    facts = detector.bundle.facts
    positive = sum(row.verdict == POSITIVE for row in rows)
    uncertain = sum(row.verdict == UNCERTAIN for row in rows)
    strange = sum(row.verdict == NOT_A_CHEST_CT for row in rows)
    return Report(
        title=title,
        headline=f"{positive} of {len(rows)} slices: covid ({_least(facts)})."
        + (f" Uncertain: {uncertain}." if uncertain else "")
        + (f" Not a chest CT: {strange}." if strange else "")
        + (f" {count_of(len(failures), 'file')} could not be read." if failures else ""),
        warnings=[_warning(detector), *([facts.abstention.meaning()] if facts.abstention else [])],
        slices_title="The slices most likely to show COVID-19",
        slices_note=BESIDE if any(len(card.images) > 1 for card in cards) else "",
        slices=cards,
        facts=[_about(detector, len(rows)), *_tables(detector, rows, failures), bundle_table(facts)],
    )


def _about(detector: Detector, slices: int) -> Table:
    networks = [one.bundle.facts for one in (detector, detector.segmenter) if one is not None]
    return Table("About this report", (), [*made_by_rows(*networks), ("Slices answered", str(slices))])


def _tables(
    detector: Detector, rows: Sequence[SliceFinding], failures: Sequence[Failure], most: int = LISTED
) -> list[Table]:
    """The first ``most`` slices with their answers, and the files that could not be read."""
    several = [name for name in detector.bundle.facts.classes if name != POSITIVE]
    types = TYPE_COLUMNS if any(row.type_shares for row in rows) else ()
    listed = [
        (
            Path(row.path).name,
            *_probabilities(row, several),
            _verdict(row),
            _share(row),
            *(percent(row.type_shares.get(name), "") for name in types),
        )
        for row in rows[:most]
    ]
    more = f"{len(rows) - most} more are in predictions.csv." if len(rows) > most else ""
    tables = [
        Table(
            "All slices, most probable first",
            ("slice", "probability", *several, "verdict", "lesions in the lungs", *TYPE_NAMES[: len(types)]),
            listed,
            more,
        )
    ]
    if failures:
        tables.append(Table("Not read", ("file", "reason"), list(_reasons(failures))))
    return tables


def _warning(detector: Detector) -> str:
    alone = "Each slice gets its own answer, even if several are from one patient"
    if detector.segmenter is None:
        return f"{alone}; a picture that is not a chest CT slice also gets an answer."
    return (
        f"{alone}. Lesions can have any cause: their share shows how much of the lung is diseased, not why."
    )


def _least(facts: BundleFacts) -> str:
    """The probabilities whose verdict is covid, in words."""
    if facts.abstention is None:
        return f"probability of {facts.threshold:.2f} or more"
    return (
        f"probability {'over' if facts.abstention.both_possible else 'from'} {facts.abstention.highest:.2f}"
    )


def _verdict(row: SliceFinding) -> str:
    return f"{row.verdict}: {row.reason}" if row.verdict == UNCERTAIN else row.verdict


def _probabilities(row: SliceFinding, others: Sequence[str]) -> list[str]:
    """The probability of COVID-19, and those of the other classes of a detector of several."""
    if row.probability is None:
        return [""] * (1 + len(others))
    return [f"{row.probability:.3f}", *(f"{row.probabilities[name]:.3f}" for name in others)]


def _share(row: SliceFinding) -> str:
    if row.verdict == NOT_A_CHEST_CT:
        return row.reason
    return "" if row.lesion_share is None else f"{row.lesion_share:.1%}"


def _reasons(failures: Sequence[Failure]) -> Iterator[tuple[str, str]]:
    for failure in failures:
        yield Path(failure.path).name, failure.problem + (f"; {failure.remedy}" if failure.remedy else "")
