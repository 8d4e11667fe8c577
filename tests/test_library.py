"""The library as used in a notebook: its output, its types, and every example in the documentation."""

import base64
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import groundglass
from groundglass.cli.app import app
from groundglass.detect.detector import Detector
from groundglass.detect.findings import Findings
from groundglass.detect.patient import PatientFinding
from groundglass.phantom import Phantom, make_phantom, random_lesions, write_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.phantom.volumes import write_phantom_nifti
from groundglass.segment.notebook import NOTICE
from groundglass.segment.segmenter import Segmenter

ROOT = Path(__file__).parents[1]
SOURCE = Path(groundglass.__file__).parent


@pytest.fixture(scope="module")
def finding(shipped_detector: Detector, covid_phantom: Phantom) -> PatientFinding:
    answered = shipped_detector(covid_phantom.scan)
    assert isinstance(answered, PatientFinding)
    return answered


def picture_in(html: str) -> Image.Image:
    found = re.search('src="data:image/png;base64,([^"]+)"', html)
    assert found is not None
    return Image.open(io.BytesIO(base64.b64decode(found[1])))


def test_a_volume_is_shown_with_its_picture_verdict_and_volumes(finding: PatientFinding) -> None:
    html = finding._repr_html_()
    assert finding.headline() in html
    assert NOTICE in html
    assert NOTICE == "Research use only; not a medical device."
    both = finding.extent["both"]
    assert f"<td>both lungs</td><td>{both.lung_ml:.0f} ml</td><td>{both.lesion_ml:.0f} ml</td>" in html
    assert np.array_equal(np.asarray(picture_in(html)), np.asarray(finding.picture()))
    for stacked in (html, finding.masks._repr_html_()):
        assert f'type="range" min="0" max="{len(finding.slices) - 1}"' in stacked, "a stack to scroll through"
        assert "http" not in stacked, "nothing is loaded from elsewhere"
    assert finding.masks.lungs.max() == 2
    assert finding.masks.lesions.sum() == (finding.masks.labels > 3).sum()
    assert finding.masks.extent()["both"].lesion_ml == pytest.approx(both.lesion_ml)
    assert "ml</td>" in finding.masks._repr_html_()
    for one in (finding, finding.masks, *finding.slices, finding.masks.volume):
        assert len(repr(one)) < 250


def test_a_slice_is_shown_with_its_heatmap_and_masks(
    shipped_detector: Detector, finding: PatientFinding
) -> None:
    number = finding.most_telling(1)[0].number - 1
    one = shipped_detector(finding.masks.volume.slice(number))
    html = one._repr_html_()
    assert one.verdict in html
    assert NOTICE in html
    assert picture_in(html).size == (320, 160), "heatmap and masks side by side"
    assert len(repr(one)) < 250
    assert "img" not in one.without_pixels()._repr_html_()
    assert isinstance(one, Findings)
    masks = Segmenter.load()(finding.masks.volume.slice(number))
    assert picture_in(masks._repr_html_()).size == (160, 160)
    assert repr(masks).startswith("Segmentation(lesions in ")


def test_what_is_shown_is_not_markup(shipped_detector: Detector) -> None:
    noise = np.random.default_rng(0).random((64, 64))
    answered = shipped_detector(noise)
    assert answered.verdict == "not a chest CT"
    assert "<script>" not in answered.with_pixels(answered.scan)._repr_html_()
    object.__setattr__(answered, "reason", "<script>")
    assert "&lt;script&gt;" in answered._repr_html_()


def test_loaded_objects_have_short_reprs(shipped_detector: Detector) -> None:
    assert repr(shipped_detector) == "Detector('detector-lesions')"
    assert repr(shipped_detector.segmenter) == "Segmenter('lungs-lite0')"
    assert len(repr(shipped_detector.bundle)) < 250


SNIPPET = """
import groundglass
import numpy as np

detector = groundglass.Detector.load()
reveal_type(detector)
reveal_type(detector("study/"))
reveal_type(detector(np.zeros((64, 64)), spacing=(1, 1)))
scan = groundglass.read("study/")
reveal_type(scan)
if isinstance(scan, groundglass.Volume):
    reveal_type(detector(scan))
    reveal_type(groundglass.Segmenter.load()(scan).extent()["both"].lesion_ml)
else:
    reveal_type(detector(scan))
found: groundglass.Findings = detector("study/")
reveal_type(found.probability)
reveal_type(groundglass.Bundle.load().facts.threshold)
reveal_type(groundglass.Recipe.load("recipe.yaml").seed)
reveal_type(groundglass.Manifest.load("covid-ct").name)
reveal_type(groundglass.evaluate("predictions.csv"))
detector(3)
"""
REVEALED = [
    "Detector",
    "SliceFinding | PatientFinding",
    "SliceFinding | PatientFinding",
    "Scan | Volume",
    "PatientFinding",
    "float | None",
    "SliceFinding",
    "float | None",
    "float",
    "int",
    "str",
    "DetectorEvaluation | MaskJudgement",
]


def test_a_users_type_checker_sees_the_real_types(tmp_path: Path) -> None:
    """mypy on a user's file; with the options of `make check`, whose cache saves most of the time."""
    (tmp_path / "notebook.py").write_text(SNIPPET)
    environment = {**os.environ, "MYPYPATH": str(SOURCE.parent)}
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml"]
    done = subprocess.run(
        [*command, tmp_path / "notebook.py"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    revealed = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert [re.sub(r"groundglass\.[\w.]+\.", "", one) for one in revealed] == REVEALED, done.stdout
    assert 'matches argument type "int"' in done.stdout
    assert "Found 1 error in 1 file" in done.stdout


def test_the_stub_names_what_the_package_has() -> None:
    stub = (SOURCE / "__init__.pyi").read_text()
    named = re.findall(r"^from ([\w.]+) import (.+)$", stub, re.MULTILINE)
    home = {name.split(" as ")[0]: module for module, names in named for name in names.split(", ")}
    assert home == groundglass._HOME
    assert all(getattr(groundglass, name) is not None for name in groundglass.__all__)
    with (ROOT / "pyproject.toml").open("rb") as handle:
        packed = tomllib.load(handle)["tool"]["setuptools"]["package-data"]["groundglass"]
    assert {"py.typed", "*.pyi"} <= set(packed)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples name, as small phantoms; the examples run there."""
    phantom = make_phantom(1, shape=(20, 160, 160), lesions=random_lesions(1, "covid"))
    for folder in ("patient", "study", "patients/one"):
        for number, path in enumerate(write_phantom_dicom(phantom, tmp_path / folder)):
            path.rename(path.with_name(f"IM{number:04d}"))
    write_phantom_dicom(make_phantom(2, shape=(20, 160, 160)), tmp_path / "patients" / "two")
    write_phantom_nifti(phantom, tmp_path / "volume.nii.gz")
    slices = write_phantom(phantom, tmp_path / "phantom", every=4)
    for name in ("slices", "scans", "labelled/covid", "my/folder/covid"):
        (tmp_path / name).mkdir(parents=True)
        for path in slices:
            shutil.copy(path, tmp_path / name)
    healthy = write_phantom(make_phantom(2, shape=(20, 160, 160)), tmp_path / "healthy", every=4)
    for name in ("labelled/normal", "my/folder/normal"):
        (tmp_path / name).mkdir()
        for path in healthy:
            shutil.copy(path, tmp_path / name)
    shutil.copy(slices[1], tmp_path / "slice.png")
    (tmp_path / "more").mkdir()
    Image.open(slices[1]).save(tmp_path / "more" / "slice.jpg")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in a language, "" for blocks without one."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [code for named, code in found if named == language]


@pytest.mark.parametrize("page", ["docs/library.md", "docs/own-model.md", "docs/volumes.md", "README.md"])
def test_the_examples_in_python_run(page: str, desk: Path) -> None:
    names: dict[str, object] = {}
    found = blocks(ROOT / page, "python")
    assert found
    for block in found:
        exec(compile(block, page, "exec"), names)
    assert isinstance(names["finding"], Findings)


@pytest.mark.tutorial
@pytest.mark.parametrize("page", ["docs/audit.md", "docs/commands.md"])
def test_the_short_examples_in_python_run(page: str) -> None:
    code = "\n".join(blocks(ROOT / page, "python"))
    assert code
    subprocess.run([sys.executable, "-c", code], check=True)


def page_commands(page: str) -> list[list[str]]:
    lines = "\n".join(blocks(ROOT / page, "")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("groundglass ")]


def test_the_commands_of_the_readme_exist_and_take_these_options() -> None:
    seen = set()
    for words in page_commands("README.md"):
        command = typer.main.get_command(app)
        while hasattr(command, "commands") and words:
            command, words = command.commands[words[0]], words[1:]
        command.make_context(command.name, list(words)).close()
        seen.add(command.name)
    assert {"predict", "segment", "train", "compare", "audit", "evaluate", "split"} <= seen


def test_the_commands_of_the_readme_that_need_no_dataset_run(desk: Path) -> None:
    ran = []
    for words in page_commands("README.md"):
        data = words[0] == "data" and words[1] in ("list", "info", "import", "split")
        if words[0] in ("predict", "segment") or data or (words[0] == "scan" and words[1:]):
            if words[:2] in (["predict", "phantoms/scans"], ["predict", "cohort/"]):
                continue
            done = CliRunner().invoke(app, words)
            assert done.exit_code == 0, (words, done.output, done.exception)
            ran.append(words[0])
    assert len(ran) >= 9


@pytest.mark.tutorial
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for words in page_commands("docs/tutorials/first-network.md"):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.output, done.exception)
    assert (tmp_path / "prediction" / "report.html").exists()
