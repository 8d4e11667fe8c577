"""The documentation site: it builds without a warning, and its reference has every command."""

import json
import re
import runpy
import tomllib
from contextlib import nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

from groundglass.cli.app import app

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sphinx", reason="pip install 'groundglass[docs]'")
    from sphinx.application import Sphinx

    built = tmp_path_factory.mktemp("site")
    sphinx = Sphinx(DOCS, DOCS, built, built / "doctrees", "html", status=None, warningiserror=True)
    sphinx.build()
    assert sphinx.statuscode == 0
    return built


def test_every_page_is_there_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = [
        page.relative_to(DOCS).with_suffix(".html")
        for page in (*DOCS.rglob("*.md"), *DOCS.glob("notebooks/*.ipynb"))
        if "_build" not in page.parts
    ]
    assert len(pages) > 36
    for notebook in DOCS.glob("notebooks/*.ipynb"):
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        assert not any(cell.get("outputs") for cell in cells), "stored without outputs; make docs runs them"
    for page in pages:
        text = (site / page).read_text("utf-8")
        assert "not a medical device" in text
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?:https?:)?//[^"]+"', text)


def test_the_reference_has_every_command_and_the_library(site: Path) -> None:
    text = (site / "reference" / "cli.html").read_text("utf-8")
    listed = re.findall(r"^│ (\w[\w-]*) ", CliRunner().invoke(app, ["--help"]).output, re.MULTILINE)
    assert len(listed) > 15
    for name in listed:
        assert f"groundglass {name}" in text
    library = (site / "reference" / "api.html").read_text("utf-8")
    assert 'id="groundglass.Detector"' in library
    assert "HU" in library
    assert "1.2.840.10008.5.1.4.1.1.88.34" in (site / "reference" / "conformance.html").read_text("utf-8")


def test_the_licences_of_all_dependencies_are_listed(site: Path) -> None:
    """Building the page fails if the plain install needs the GPL."""
    text = (site / "reference" / "licences.html").read_text("utf-8")
    with (DOCS.parent / "pyproject.toml").open("rb") as handle:
        project = tomllib.load(handle)["project"]
    for wanted in project["dependencies"]:
        assert f"<td><p>{re.match(r'[a-z0-9-]+', wanted)[0]}</p></td>" in text
    assert "docutils" in text


@pytest.mark.parametrize(("terms", "refused"), [("LGPL-3.0-or-later", False), ("GPL-3.0-only", True)])
def test_a_plain_install_must_not_need_the_gpl(terms: str, refused: bool) -> None:
    pytest.importorskip("sphinx", reason="pip install 'groundglass[docs]'")
    conf = runpy.run_path(str(DOCS / "conf.py"))
    conf["licence_list"].__globals__["licence"] = lambda name: terms
    with pytest.raises(Exception, match="GPL: annotated-doc") if refused else nullcontext():
        conf["licence_list"]()
