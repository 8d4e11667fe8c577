import re
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest
from jinja2 import UndefinedError

from groundglass.audit import data, detector
from groundglass.audit.check import (
    SEVERITIES,
    Check,
    CheckOutcome,
    NotApplicable,
    Result,
    checks_in,
    rendered,
    run_checks,
    worst,
)
from groundglass.audit.material import Material
from groundglass.audit.trial import Trial
from groundglass.bundle.evaluation import Estimate

DOCS = Path(__file__).parents[2] / "docs" / "audit-checks.md"
CHECKS = [*checks_in(data), *checks_in(detector)]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_a_check_has_all_that_a_reader_needs(check):
    assert re.fullmatch(r"GG[12]\d\d", check.code)
    assert check.severity in SEVERITIES
    assert check.title[0].isupper()
    assert not check.title.endswith(".")
    assert check.remedy.endswith(".")
    text = DOCS.read_text(encoding="utf-8")
    assert f'<a id="{check.code.lower()}"></a>\n## {check.code} {check.title}\n' in text
    assert check.page() == f"docs/audit-checks.md#{check.code.lower()}"


def test_codes_distinguish_data_from_detectors_and_are_unique():
    assert all(check.code.startswith("GG1") for check in checks_in(data))
    assert all(check.code.startswith("GG2") for check in checks_in(detector))
    assert len({check.code for check in CHECKS}) == len(CHECKS)


def test_needs_are_known():
    for check in checks_in(data):
        assert set(check.needs) <= set(Material.NEEDS)
    for check in checks_in(detector):
        assert set(check.needs) <= set(Trial.NEEDS)


def test_all_checks_are_found():
    assert [check.code for check in checks_in(data)] == [f"GG{number}" for number in range(101, 121)]
    assert [check.code for check in checks_in(detector)] == [f"GG{number}" for number in range(201, 211)]


def test_docs_describe_only_existing_checks():
    codes = set(re.findall(r"^## (GG\d{3})", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert codes == {check.code for check in CHECKS}


class Subject:
    NEEDS: ClassVar = {"luck": lambda _: "There is no luck.", "nothing": lambda _: ""}


def check(code="GG901", says=None, needs=()):
    def run(self, subject):
        if isinstance(says, Exception):
            raise says
        return says

    return type(
        "Made", (Check,), {"code": code, "title": "Made", "remedy": "Rest.", "needs": needs, "run": run}
    )


def test_a_check_is_found_passes_or_does_not_apply():
    found = Result("warning", "It is so.", Estimate(value=0.5, low=0.25, high=0.75), "share", ("/a.png",))
    checks = [
        check("GG901", found),
        check("GG902", Result(None, "All is well.")),
        check("GG903", NotApplicable("It makes no sense.")),
        check("GG904", found, needs=("nothing", "luck")),
    ]
    told = []
    outcomes = run_checks(checks, Subject(), told.append)
    assert [outcome.status for outcome in outcomes] == ["found", "passed", *["not applicable"] * 2]
    assert [outcome.reason for outcome in outcomes[2:]] == ["It makes no sense.", "There is no luck."]
    assert told[0] == "GG901 Made"
    document = outcomes[0].to_dict()
    assert document["figure"] == 0.5
    assert document["interval"] == [0.25, 0.75]
    assert document["files"] == ["/a.png"]
    assert document["severity"] == "warning"
    assert outcomes[3].to_dict()["severity"] is None


def test_templates_count_and_format_and_refuse_what_is_not_given():
    share = Estimate(value=0.5, low=0.25, high=0.75)
    template = """{{ one|counted('pair') }}, {{ two|counted('pair') }}
        of {{ share }}, {{ share|as(1) }}, {{ part|as('.1%') }}"""
    values = {"one": 1, "two": 2, "share": share, "part": 0.125}
    told = "1 pair, 2 pairs of 0.50 (0.25 to 0.75), 0.5 (0.2 to 0.8), 12.5%"
    assert rendered(template, values) == told
    with pytest.raises(UndefinedError, match="one"):
        rendered(template, {name: value for name, value in values.items() if name != "one"})


def test_a_check_uses_the_texts_of_its_code():
    class Counts(Check):
        code = "GG119"

        def run(self, subject):
            share = Estimate(value=0.25)
            lost = {"lost": 1, "total": 4, "name": "The class covid", "gone": 1, "of": 2}
            return self.result("error", share, files=[Path("/a.png")], rows=[("a.png", share)], **lost)

    result = Counts().run(None)
    assert result.message.startswith("1 of 4 files (25.0%) cannot be read")
    assert (result.measure, result.header, result.rows) == (
        "share of files",
        ("File", "Problem"),
        (("a.png", "0.25"),),
    )
    assert result.files == ("/a.png",)


def test_details_are_named_by_the_header():
    result = Result("note", "So.", header=("file", "bits"), rows=(("a", "1"), ("b", "2")))
    assert CheckOutcome(check(), result).to_dict()["details"] == [
        {"file": "a", "bits": "1"},
        {"file": "b", "bits": "2"},
    ]


def test_the_worst_is_reported():
    made = check()
    outcomes = [
        CheckOutcome(made, Result(severity, "So.")) for severity in ("note", None, "error", "warning")
    ]
    assert worst(outcomes) == "error"
    assert worst(outcomes[:2]) == "note"
    assert worst([CheckOutcome(made, None, "No."), outcomes[1]]) is None


def test_a_code_that_is_given_twice_is_refused(tmp_path, monkeypatch):
    body = (
        "from groundglass.audit.check import Check\n"
        "class {name}(Check):\n    code = 'GG901'\n    def run(self, subject): ...\n"
    )
    folder = tmp_path / "twice_checked"
    folder.mkdir()
    for name in ("One", "Two"):
        (folder / f"{name.lower()}.py").write_text(body.format(name=name))
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    package: ModuleType = __import__("twice_checked")
    with pytest.raises(ValueError, match="GG901"):
        checks_in(package)
