"""A report as a PDF of one or two A4 pages, for printing or sending.

WeasyPrint lays it out, with the same content and colours as the HTML page. Among the maintained libraries
(WeasyPrint, fpdf2, ReportLab) it is the only one that writes tagged PDF, which screen readers can follow. It
needs the system library Pango.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import ImageFile

from groundglass.errors import GroundglassError, need_extra
from groundglass.files import write_bytes
from groundglass.report.page import Report, render

PDF = "report.pdf"
MOST_PAGES = 2
CARDS, WIDE_CARDS, ROWS = 6, 3, 24
"""Largest numbers of slices, of slices with more than two pictures, and of table rows in a PDF; the HTML page
shows more."""
NO_PANGO = (
    "a PDF needs the system library Pango, which was not found. Debian and Ubuntu: apt install libpango-1.0-0 "
    "libpangoft2-1.0-0 libharfbuzz-subset0; macOS: brew install pango; Windows: "
    "https://doc.courtbouillon.org/weasyprint/stable/first_steps.html. Or print report.html from a browser"
)


def need_pdf() -> None:
    """Check that PDFs can be written; call this before a long computation rather than after it.

    Raises
    ------
    MissingExtraError
        If WeasyPrint is not installed.
    GroundglassError
        If it does not find Pango.
    """
    need_extra("pdf")
    try:
        import weasyprint  # noqa: F401

        # WeasyPrint makes Pillow accept truncated pictures everywhere, but a truncated slice must be refused.
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    except OSError as error:
        raise GroundglassError(NO_PANGO) from error
    # It warns about parts of the shared style sheet that it ignores, such as the colours for dark screens.
    logging.getLogger("weasyprint").setLevel(logging.ERROR)


def write_pdf(report: Report, path: Path) -> None:
    """Write the report as a tagged PDF of at most two pages.

    It contains only the first table of the facts, and shows fewer slices if they do not fit on two pages.

    Raises
    ------
    GroundglassError
        If PDFs cannot be written here (see :func:`need_pdf`), or the file cannot be written.
    """
    need_pdf()
    tables = [replace(table, rows=table.rows[:ROWS]) for table in report.figures_of_merit]
    short = replace(report, figures_of_merit=tables, facts=report.facts[:1])
    wide = any(len(card.images) > 2 for card in report.slices)
    for cards in range(min(WIDE_CARDS if wide else CARDS, len(report.slices)), -1, -1):
        document = _laid_out(replace(short, slices=report.slices[:cards]))
        if len(document.pages) <= MOST_PAGES:
            break
    write_bytes(path, document.write_pdf(pdf_tags=True))


def _laid_out(report: Report) -> Any:
    from weasyprint import HTML
    from weasyprint.urls import URLFetcher

    # The page is self-contained; nothing is fetched from elsewhere.
    inside = URLFetcher(allowed_protocols=("data",))
    return HTML(string=render("report.pdf.jinja", report), url_fetcher=inside).render(pdf_tags=True)
