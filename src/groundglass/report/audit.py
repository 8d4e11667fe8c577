"""The page of an audit: the findings with their figures, details and pictures side by side."""

from pathlib import Path

from PIL import Image

from groundglass.audit.check import CheckOutcome, Result
from groundglass.audit.run import Audit
from groundglass.bundle.evaluation import format_estimate
from groundglass.errors import ScanError, count_of
from groundglass.preprocess import Preprocessing
from groundglass.report.page import Report, SliceCard, Table
from groundglass.scan.read import read_scan
from groundglass.segment.overlay import PICTURE_SIDE

SETS, PICTURES, ROWS = 6, 4, 30
"""The page shows this many sets of pictures per check, pictures per set, and rows of details; audit.json has
all."""
NO_GUARANTEE = (
    "A passed check means that the problem was not found, not that it does not exist. No result of an audit "
    "makes a detector fit for use on patients."
)


def audit_page(audit: Audit) -> Report:
    """The content of ``report.html``."""
    found = [(outcome, outcome.result) for outcome in audit.found if outcome.result is not None]
    return Report(
        title=audit.title,
        headline=f"{audit.headline()} {audit.about}.",
        warnings=[NO_GUARANTEE],
        tables_title="What was found",
        figures_of_merit=[_found(found), *(_details(outcome, result) for outcome, result in found)],
        slices_title="Pictures side by side",
        slices_note="The most revealing scans for each finding; those in one box belong together.",
        slices=[card for outcome, result in found for card in _cards(outcome, result)],
        facts=[_not_found(audit)],
    )


def _found(found: list[tuple[CheckOutcome, Result]]) -> Table:
    rows = [
        (outcome.check.code, result.severity or "", outcome.check.title, figure_of(result), result.message)
        for outcome, result in found
    ]
    header = ("code", "severity", "what was looked for", "figure", "what was found")
    return Table("", header, rows, "" if rows else "Nothing was found.", prose=True)


def figure_of(result: Result) -> str:
    """A result's figure with its interval and its name; blank if it has none."""
    figure, value = result.figure, result.figure.value
    if value is None:
        return ""
    digits = 0 if figure.low is None and value == round(value) else 2
    return f"{format_estimate(figure, digits)} {result.measure}".strip()


def _details(outcome: CheckOutcome, result: Result) -> Table:
    left_out = len(result.rows) - ROWS
    more = f" audit.json has {count_of(left_out, 'more row')}." if left_out > 0 else ""
    note = f"What to do: {outcome.check.remedy} How it is measured: {outcome.check.page()}.{more}"
    rows = [
        tuple(Path(cell).name if cell.startswith("/") else cell for cell in row) for row in result.rows[:ROWS]
    ]
    return Table(f"{outcome.check.code} {outcome.check.title}", result.header, rows, note)


def _cards(outcome: CheckOutcome, result: Result) -> list[SliceCard]:
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


def _not_found(audit: Audit) -> Table:
    rows = [
        (
            outcome.check.code,
            outcome.status,
            outcome.check.title,
            outcome.reason if outcome.result is None else outcome.result.message,
        )
        for outcome in audit.outcomes
        if outcome.status != "found"
    ]
    header = ("code", "result", "what was looked for", "why")
    return Table("Checks that passed or do not apply", header, rows, prose=True)
