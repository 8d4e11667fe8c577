import re
from html.parser import HTMLParser

from groundglass.commands.predict_volumes import columns
from groundglass.detect.detector import Detector
from groundglass.detect.findings import Failure
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE, UNCERTAIN
from groundglass.report.cohort import cohort_report, times_report
from groundglass.report.page import render

NONE = {name: None for name in columns(types=True) if name.startswith(("both_", "right_", "left_"))}


def row(number: int, verdict: str, lesion_ml: float | None, **further: object) -> dict[str, object]:
    known = lesion_ml is not None
    return {
        **dict.fromkeys(columns(types=True), ""),
        **NONE,
        "study": f"study-{number}",
        "verdict": verdict,
        "probability": number / 10 if known else None,
        "both_lesion_ml": lesion_ml,
        "both_lung_ml": 4000.0 if known else None,
        "both_lesion_share": lesion_ml / 4000 if lesion_ml is not None else None,
        "both_ground_glass_ml": lesion_ml,
        "both_consolidation_ml": 0.0 if known else None,
        **further,
    }


ROWS = [
    row(1, NEGATIVE, 0.0, severity="CT-0, none"),
    row(2, POSITIVE, 100.0, severity="CT-1, mild", warnings="2 slices missing; uneven spacing"),
    row(3, POSITIVE, 300.0, severity="CT-1, mild", warnings="7 slices missing"),
    row(4, UNCERTAIN, 1200.0, severity="CT-2, moderate"),
    row(5, NOT_A_CHEST_CT, None, reason="no lungs"),
    row(6, "", None, problem="took more than 900 seconds, so it was stopped"),
]
LONG = "took more than 900 seconds, so it was stopped"
FAILURES = [Failure("a", LONG, "allow more"), Failure("b", LONG, "allow more"), Failure("c", "is cut", "")]


class Cells(HTMLParser):
    """The texts of a page's SVG bars."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._open = tag == "text"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append(data)
        self._open = False


def test_the_report_counts_verdicts_lesions_warnings_and_failures(shipped_detector: Detector) -> None:
    page = render("report.html.jinja", cohort_report(ROWS, FAILURES, shipped_detector))
    assert "2 of 5 studies: covid. Uncertain: 1. 1 could not be answered." in page
    texts = Cells(page).texts
    bars = dict(zip(texts[::2], texts[1::2], strict=True))
    wanted = {POSITIVE: "2", UNCERTAIN: "1", NEGATIVE: "1", NOT_A_CHEST_CT: "1"}
    wanted |= {"CT-0, none": "1", "CT-1, mild": "2", "CT-2, moderate": "1"}
    wanted |= {"up to 0.25%": "1", "to 5%": "1", "to 25%": "1", "to 50%": "1", "over 75%": "0"}
    wanted |= {"up to 1 ml": "1", "to 200 ml": "1", "to 500 ml": "1", "over 500 ml": "1"}
    wanted |= {"ground glass, ml": "1600", "consolidation, ml": "0"}
    assert bars.items() >= wanted.items()
    assert re.search(r"<td>… slices missing</td><td>2</td>", page)
    assert re.search(r"<td>took more than … seconds, so it was stopped</td><td>2</td>", page)
    assert "<td>200 (150 to 250)</td>" in page
    assert 'href="study-2/report.html"' in page
    assert 'class="sortable"' in page


def test_nothing_but_failures_is_also_a_report(shipped_detector: Detector) -> None:
    page = render("report.html.jinja", cohort_report(ROWS[-1:], FAILURES[:1], shipped_detector))
    assert "0 of 0 studies: covid. 1 could not be answered." in page
    assert "No studies" not in page


def test_times_by_stage(shipped_detector: Detector) -> None:
    seconds = {f"study-{n}": {"read": 1.0, "answer": float(n), "write": 0.5} for n in (1, 2, 6)}
    page = render("report.html.jinja", times_report(seconds, shipped_detector))
    assert "3 studies, 2.5 s each in the median." in page
    assert "<td>answer</td><td>9.00</td><td>2.00</td><td>5.60</td><td>6.00</td>" in page
    assert render("report.html.jinja", times_report({}, shipped_detector))
