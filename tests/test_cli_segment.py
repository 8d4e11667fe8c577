import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from groundglass.cli.app import app
from groundglass.phantom import Lesion, make_phantom, write_phantom
from groundglass.phantom.volumes import write_phantom_nifti
from segmenter_stub import threshold_segmenter


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return threshold_segmenter(tmp_path_factory.mktemp("segmenter"))


@pytest.fixture
def slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 24 slices, in the folder in which the command runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    phantom = make_phantom(1, shape=(3, 64, 64), lesions=[Lesion("ground glass", 150, side="right")])
    folder = write_phantom(phantom, tmp_path / "phantom")[1].parent
    (one, *rest) = sorted(folder.iterdir())
    for number in range(24 - len(rest) - 1):
        (folder / f"copy-{number}.png").write_bytes(one.read_bytes())
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_segment_prints_a_line_a_slice_and_the_folder(bundle: Path, slices: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save("a-noise.png")
    done = run("segment", "a-noise.png", slices, "-b", bundle, "-o", "out")
    assert done.exit_code == 0, done.exception
    strange, first, *_, more, last = done.stdout.splitlines()
    assert strange.startswith("not a chest CT  a-noise.png: no lungs")
    assert first.startswith("lesions ")
    assert first.endswith(str(slices / "copy-0.png"))
    assert "right" in first.split("left")[0]
    assert "5 more in the tables in out" in more
    assert last.endswith(": out")
    assert done.stderr == "Research use only; not a medical device.\n"
    assert (Path("out") / "overlays" / "copy-0.png").is_file()


def test_segment_continues_after_bad_files(bundle: Path, slices: Path) -> None:
    Path("bad.png").write_bytes(b"no picture")
    good = slices / "copy-0.png"
    done = run("segment", "bad.png", good, "-b", bundle, "-o", "out", "--no-overlays")
    assert done.exit_code == 3
    assert "not read: bad.png: is not a picture" in done.stderr
    assert Path("out/copy-0_lungs.png").is_file()
    assert not Path("out/overlays").exists()
    assert run("segment", "bad.png", "-b", bundle, "-o", "none").exit_code == 1
    assert run("segment", good, "-b", bundle).exit_code == 2  # -o is required
    assert "no such bundle" in str(run("segment", good, "-b", "gone", "-o", "none").exception)


def test_json_is_all_that_goes_to_standard_output(bundle: Path, slices: Path) -> None:
    Path("bad.png").write_bytes(b"no picture")
    done = run("segment", "bad.png", slices, "-b", bundle, "-o", "out", "--json")
    assert done.exit_code == 3
    document = json.loads(done.stdout)
    assert len(document["slices"]) == 24
    assert [failure["path"] for failure in document["failures"]] == ["bad.png"]
    assert all((Path("out") / entry["masks"]["lungs"]).is_file() for entry in document["slices"])
    assert "medical device" in document["research_use"]


def test_sheet_says_that_it_is_for_looking_only(bundle: Path, slices: Path) -> None:
    Path("bad.png").write_bytes(b"no picture")
    done = run("sheet", slices, "-b", bundle, "-o", "look", "--count", "5", "--seed", "2")
    assert done.exit_code == 0, done.exception
    assert len(Path("look/sheet.csv").read_text().splitlines()) == 6
    assert "do not publish" in done.stderr
    done = run("sheet", "bad.png", slices / "copy-0.png", "-b", bundle, "-o", "look")
    assert done.exit_code == 3
    assert "not read: bad.png" in done.stderr
    assert run("sheet", "bad.png", "-b", bundle, "-o", "look").exit_code == 1


@pytest.mark.parametrize("command", ["segment", "sheet"])
def test_every_command_has_help_with_an_example(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = run(command, "--help").stdout
    assert f"groundglass {command} " in shown.split("Examples:")[1]
    assert command in run("--help").stdout
    assert ("do not publish the sheet" in shown) == (command == "sheet")


def test_a_volume_in_one_file_gets_nifti_masks_and_millilitres(bundle: Path, slices: Path) -> None:
    phantom = make_phantom(1, shape=(12, 64, 64), lesions=[Lesion("ground glass", 150, side="right")])
    write_phantom_nifti(phantom, Path("patient.nii.gz"))
    done = run(
        "segment", "patient.nii.gz", slices / "copy-0.png", "-b", bundle, "-o", "out", "--json", "out.json"
    )
    assert done.exit_code == 0, done.output
    document = json.loads(Path("out.json").read_text())
    assert len(document["slices"]) == 1
    (volume,) = document["volumes"]
    folder = Path("out") / volume["study"]
    lungs = nibabel.load(folder / "lungs.nii.gz")
    voxel_ml = float(np.prod(lungs.header.get_zooms())) / 1000
    assert set(np.unique(lungs.dataobj)) == {0, 1, 2}
    assert np.count_nonzero(lungs.dataobj) * voxel_ml == pytest.approx(volume["both_lung_ml"], rel=1e-4)
    assert volume["both_lesion_ml"] > 0
    assert (folder / "montage.png").is_file()
    (row,) = csv.DictReader(Path("out/volumes.csv").read_text().splitlines())
    assert float(row["right_lung_ml"]) + float(row["left_lung_ml"]) == pytest.approx(
        float(row["both_lung_ml"])
    )
    printed = run("segment", "patient.nii.gz", "-b", bundle, "-o", "again").stdout
    assert " ml)" in printed
    assert printed.splitlines()[-1] == "Masks, volumes.csv: again"
