"""The page of an audit: what was found, with the figures, the details and the pictures side by side."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from groundglass.audit.check import CheckOutcome, Result
from groundglass.errors import ScanError
from groundglass.evaluate.evaluation import format_estimate
from groundglass.preprocess import Preprocessing
from groundglass.report.page import PICTURE_SIDE, Report, SliceCard, Table, write_report
from groundglass.scan.find import read_scan

SETS, PICTURES, ROWS = 6, 4, 30
"""Sets of pictures of a check, pictures of a set, and rows of details that the page shows; audit.json has all."""
NO_GUARANTEE = (
    "A check that passes says that this way to be misled was not seen, not that there is none. Nothing here makes "
    "a detector fit for patients."
)


def write_audit_report(
    title: str, headline: str, found: Sequence[CheckOutcome], outcomes: Sequence[CheckOutcome], folder: Path
) -> None:
    """Write ``report.html``.

    Parameters
    ----------
    title, headline
        Its title, and what came out in one sentence.
    found
        What was found, the worst first.
    outcomes
        Of every check, by code.
    folder
        Where to.
    """
    report = Report(
        title=title,
        headline=headline,
        warnings=[NO_GUARANTEE],
        tables_title="What was found",
        figures_of_merit=[_found(found), *_details(found)],
        slices_title="Pictures side by side",
        slices_note="For each finding the most telling scans; those in one box belong together.",
        slices=[card for outcome in found for card in _cards(outcome)],
        facts=[_others(outcomes)],
    )
    write_report(report, folder / "report.html")


def _found(found: Sequence[CheckOutcome]) -> Table:
    rows = [
        (outcome.check.code, result.severity or "", outcome.check.title, figure_of(result), result.message)
        for outcome, result in _with_results(found)
    ]
    header = ("code", "severity", "what was looked for", "figure", "what was found")
    return Table("", header, rows, "" if rows else "Nothing was found.")


def figure_of(result: Result) -> str:
    """A result's figure with its interval, and what it is; blank where it has none."""
    figure, value = result.figure, result.figure.value
    if value is None:
        return ""
    digits = 0 if figure.low is None and value == round(value) else 2
    return f"{format_estimate(figure, digits)} {result.measure}".strip()


def _details(found: Sequence[CheckOutcome]) -> list[Table]:
    tables = []
    for outcome, result in _with_results(found):
        left_out = len(result.rows) - ROWS
        more = f" {left_out} more rows are in audit.json." if left_out > 0 else ""
        remedy = f"What to do: {outcome.check.remedy} How it is measured: {outcome.check.page()}.{more}"
        title = f"{outcome.check.code} {outcome.check.title}"
        tables.append(Table(title, result.header, [*map(_short_names, result.rows[:ROWS])], remedy))
    return tables


def _short_names(row: tuple[str, ...]) -> tuple[str, ...]:
    """A row with the names of files instead of their paths."""
    return tuple(Path(cell).name if cell.startswith("/") else cell for cell in row)


def _cards(outcome: CheckOutcome) -> list[SliceCard]:
    result = outcome.result
    if result is None:
        return []
    cards = []
    for files in result.side_by_side[:SETS]:
        images = tuple(image for image in map(_image, files[:PICTURES]) if image is not None)
        left_out = f" and {len(files) - PICTURES} more" if len(files) > PICTURES else ""
        if images:
            cards.append(
                SliceCard(
                    name=" | ".join(f"{Path(f).parent.name}/{Path(f).name}" for f in files[:PICTURES])
                    + left_out,
                    verdict=outcome.check.code,
                    answer=outcome.check.title,
                    images=images,
                    drawn="the scan that it belongs with",
                )
            )
    return cards


def _image(path: str) -> Image.Image | None:
    try:
        image = Image.fromarray(Preprocessing().picture(read_scan(path)))
    except ScanError:
        return None
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    return image


def _others(outcomes: Sequence[CheckOutcome]) -> Table:
    rows = []
    for outcome in outcomes:
        if outcome.status == "found":
            continue
        text = outcome.reason if outcome.result is None else outcome.result.message
        rows.append((outcome.check.code, outcome.status, outcome.check.title, text))
    return Table("Checks that passed or do not apply", ("code", "", "what was looked for", "why"), rows)


def _with_results(outcomes: Sequence[CheckOutcome]) -> list[tuple[CheckOutcome, Result]]:
    return [(outcome, outcome.result) for outcome in outcomes if outcome.result is not None]
