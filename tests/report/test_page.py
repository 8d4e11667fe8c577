import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from groundglass.bundle.facts import RESEARCH_USE
from groundglass.report.page import Card, Picture, Report, SliceCard, Table, write_report

NASTY = "<script>alert(1)</script> & 'quotes'"


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(tmp_path: Path) -> str:
    image = Image.new("L", (900, 500), 80)
    report = Report(
        title=NASTY,
        headline="3 of 4 slices",
        card=Card(
            "How sure", "C", "a hint", [f"C: {NASTY}"], [("Patients", "12"), ("Split", NASTY)], "the rules"
        ),
        warnings=["a warning"],
        figures_of_merit=[Table("Per slice", ("figure", "value"), [("ROC AUC", NASTY)], "a note")],
        pictures=[Picture("a curve", b"\x89PNG")],
        slices=[
            SliceCard(
                "a.png",
                "covid",
                "probability of COVID-19 0.88",
                (image, image.convert("RGB")),
                "not covid",
                False,
            )
        ],
        facts=[
            Table("The data", (), [("Licence", "CC BY 4.0")]),
            Table("Checks", ("item", "what & why"), [("1", "Sentences."), ("2", "")], prose=True),
        ],
    )
    write_report(report, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def test_a_page_holds_all_it_shows(page: str) -> None:
    links = Links()
    links.feed(page)
    assert len(links.addresses) == 3
    assert all(address.startswith("data:image/") for address in links.addresses)
    assert not re.search(r"url\(|@import|https?://", page)


def test_a_page_says_what_it_must(page: str) -> None:
    links = Links()
    links.feed(page)
    for text in (
        NASTY,
        RESEARCH_USE,
        "a warning",
        "a note",
        "probability of COVID-19 0.88",
        "(wrong)",
        "CC BY 4.0",
    ):
        assert text in links.text


def test_a_phone_can_name_the_cells_of_sentences(page: str) -> None:
    assert '<td data-label="item">1</td><td data-label="what &amp; why">Sentences.</td>' in page
    assert '<td data-label="item">2</td><td></td>' in page
    assert page.count("data-label=") == 3


def test_a_page_fits_a_phone_and_the_dark(page: str) -> None:
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page


def test_an_empty_report_is_a_page(tmp_path: Path) -> None:
    write_report(Report("title", "nothing"), tmp_path / "r.html")
    assert "<h2>" not in (tmp_path / "r.html").read_text()


def test_the_card_stands_between_the_headline_and_the_warnings(page: str) -> None:
    places = [page.index(text) for text in ("3 of 4 slices", "How sure", "a warning", "ROC AUC")]
    assert places == sorted(places)
    box = page[page.index('<section class="grade">') : page.index("</section>")]
    assert 'class="letter C"' in box
    assert 'aria-label="grade C"' in box
    links = Links()
    links.feed(box)
    for text in ("a hint", f"C: {NASTY}", "Patients", "12", "the rules"):
        assert text in links.text
    assert box.count("<tr>") == 2


def test_without_a_card_there_is_no_box(tmp_path: Path) -> None:
    write_report(Report("title", "nothing"), tmp_path / "r.html")
    assert 'class="grade"' not in (tmp_path / "r.html").read_text()
