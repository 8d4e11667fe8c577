"""The text of a PDF."""

from pathlib import Path

from pypdfium2 import PdfDocument


def pdf_text(path: Path) -> str:
    """The text of all pages, with single spaces."""
    with PdfDocument(path) as document:
        return " ".join(" ".join(page.get_textpage().get_text_bounded() for page in document).split())
