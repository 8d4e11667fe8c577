"""The command on every kind of bad input: its exit code, and never a traceback."""

import json
from pathlib import Path

import pytest
from bad_input_kinds import EXPECTED, MAKERS
from typer.testing import CliRunner

from groundglass.cli import predict as cli_predict
from groundglass.cli.app import app
from groundglass.cli.output import FAILED
from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError


@pytest.mark.parametrize("kind", MAKERS)
def test_the_command_ends_as_the_document_says(
    kind: str, tmp_path: Path, shipped_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_predict, "_load_detector", lambda *_: shipped_detector)
    path = MAKERS[kind](tmp_path)
    done = CliRunner().invoke(app, ["predict", str(path), "--json"])
    # An error of the user's is raised to main(), which prints it as one line.
    assert done.exception is None or isinstance(done.exception, GroundglassError | SystemExit), done.exception
    code = FAILED if isinstance(done.exception, GroundglassError) else done.exit_code
    assert code == EXPECTED[kind].code
    document = json.loads(done.stdout) if done.stdout else {}
    answers = document.get("patients", []) + document.get("slices", [])
    assert len([row for row in answers if not row.get("problem")]) <= max(1, len(EXPECTED[kind].slices))
    if code == 0:
        assert any(row["verdict"] for row in answers)
    else:
        assert done.stderr or isinstance(done.exception, GroundglassError)
