"""The PDF of a report: its length, its text and its structure."""

import ctypes
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageFile
from pypdfium2 import PdfDocument, raw

from groundglass.bundle.facts import RESEARCH_USE
from groundglass.errors import GroundglassError, MissingExtraError
from groundglass.report.page import Report, SliceCard, Table
from groundglass.report.pdf import ROWS, need_pdf, write_pdf
from pdf_text import pdf_text

NASTY = "<script>alert(1)</script> & 'quotes'"


def report(cards: int = 2, warnings: int = 1, rows: int = 3) -> Report:
    image = Image.new("RGB", (300, 200), (80, 90, 100))
    return Report(
        title=f"A study {NASTY}",
        headline="covid: probability of COVID-19 0.88.",
        warnings=[
            f"Warning {number}: this is known to be hard, for many reasons." for number in range(warnings)
        ],
        figures_of_merit=[Table("All", ("slice", "value"), [(f"row-{n}.", "1") for n in range(rows)])],
        slices=[SliceCard(f"slice-{n}.", "covid", "", (image, image)) for n in range(cards)],
        facts=[Table("About", (), [("Patient", "Łukasz Ω")]), Table("Long", (), [("left", "out")])],
    )


def test_text_structure_language_and_fonts_are_in_the_file(tmp_path: Path) -> None:
    write_pdf(report(), tmp_path / "report.pdf")
    text = pdf_text(tmp_path / "report.pdf")
    for shown in (
        NASTY,
        "covid: probability of COVID-19 0.88.",
        RESEARCH_USE,
        "Warning 0",
        "slice-1.",
        "Łukasz Ω",
    ):
        assert shown in text
    assert "Long" not in text
    with PdfDocument(tmp_path / "report.pdf") as document:
        assert document.get_metadata_dict()["Title"] == f"A study {NASTY}"
        assert raw.FPDFCatalog_IsTagged(document.raw)
        assert language(document) == "en"
        assert all(map(embedded, document))


def language(document: PdfDocument) -> str:
    buffer = ctypes.create_string_buffer(32)
    size = raw.FPDFCatalog_GetLanguage(document.raw, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), 32)
    return buffer.raw[: size - 2].decode("utf-16-le")


def embedded(page: object) -> bool:
    texts = [one for one in page.get_objects() if one.type == raw.FPDF_PAGEOBJ_TEXT]
    assert texts
    return all(raw.FPDFFont_GetIsEmbedded(raw.FPDFTextObj_GetFont(one.raw)) == 1 for one in texts)


@pytest.mark.parametrize(("warnings", "shown"), [(1, 6), (70, 4)])
def test_what_does_not_fit_on_two_pages_is_left_out(tmp_path: Path, warnings: int, shown: int) -> None:
    write_pdf(report(cards=40, warnings=warnings, rows=5), tmp_path / "report.pdf")
    text = pdf_text(tmp_path / "report.pdf")
    with PdfDocument(tmp_path / "report.pdf") as document:
        assert len(document) <= 2
    assert sum(f"slice-{n}." in text for n in range(40)) == shown
    assert f"Warning {warnings - 1}" in text
    assert "Łukasz Ω" in text


def test_long_tables_are_cut(tmp_path: Path) -> None:
    write_pdf(report(rows=1000), tmp_path / "report.pdf")
    text = pdf_text(tmp_path / "report.pdf")
    assert f"row-{ROWS - 1}." in text
    assert f"row-{ROWS}." not in text


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(MissingExtraError, match=r"groundglass\[pdf\]"):
        need_pdf()


def test_without_pango_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weasyprint.py").write_text("raise OSError('cannot load library')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "weasyprint", raising=False)
    with pytest.raises(GroundglassError, match="apt install libpango"):
        need_pdf()


def test_writing_a_pdf_does_not_let_truncated_pictures_pass() -> None:
    need_pdf()
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
