"""Answers for pictures: their order in the files, and the content of the report."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from groundglass.bundle.facts import RESEARCH_USE
from groundglass.commands import predict as command
from groundglass.detect.detector import Detector
from groundglass.errors import ScanError
from groundglass.phantom import Phantom
from groundglass.scan.scan import apply_window
from pdf_text import pdf_text


@pytest.fixture
def slices(covid_phantom: Phantom, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"slice-{number}.png" for number in (8, 10, 12)]
    for number, path in zip((8, 10, 12), paths, strict=True):
        grey = apply_window(covid_phantom.scan.pixels[number], -600, 1500)
        Image.fromarray(np.rint(grey * 255).astype(np.uint8)).save(path)
    return paths


def test_the_answers_are_written_and_given_before_any_picture_is_drawn(
    usual_detector: Detector, slices: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    given: list[command.Prediction] = []
    monkeypatch.setattr(command, "heatmap", stopped)
    with pytest.raises(KeyboardInterrupt):
        command.predict(slices, tmp_path / "out", detector=usual_detector, answered=given.append)
    assert [len(one.rows) for one in given] == [3]
    assert len(list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))) == 3
    assert json.loads((tmp_path / "out" / "findings.json").read_text())["summary"]["slices"] == 3


def test_the_report_answers_no_slice_again(
    usual_detector: Detector, slices: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[object] = []
    finding_of = Detector._finding
    monkeypatch.setattr(Detector, "_finding", lambda *values: answered.append(values) or finding_of(*values))
    found = command.predict(slices, tmp_path / "out", detector=usual_detector)
    assert len(answered) == 3
    assert all(row.view is None for row in found.rows)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("probability of COVID-19 0.") == 3
    assert all((tmp_path / "out" / row.heatmap).is_file() for row in found.rows)


def test_a_pdf_shows_the_slices_and_what_was_not_read(
    usual_detector: Detector, slices: list[Path], tmp_path: Path
) -> None:
    unread = [ScanError("broken.png", "is cut short", "get a new copy")]
    command.predict(slices, tmp_path / "out", detector=usual_detector, pdf=True, unread=unread)
    text = pdf_text(tmp_path / "out" / "report.pdf")
    for shown in (
        RESEARCH_USE,
        *(path.name for path in slices),
        "broken.png is cut short",
        "covid-ct-lite0",
    ):
        assert shown in text
