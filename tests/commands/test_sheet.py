import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from groundglass.commands.sheet import TILE, sheet, slice_files
from groundglass.data.manifest import write_manifest
from groundglass.errors import GroundglassError
from groundglass.segment.overlay import CAPTION
from groundglass.segment.segmenter import Segmenter


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "sheet.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def grey_tiles(folder: Path, count: int) -> list[np.ndarray]:
    """The first slices on a sheet of one row."""
    with Image.open(folder / "sheet.png") as image:
        assert image.size == (count * TILE, TILE + CAPTION)
        grey = np.asarray(image.convert("L"), dtype=float)[:TILE]
    return np.split(grey, count, axis=1)


def test_a_seed_draws_the_same_slices(
    segmenter: Segmenter, phantom_slices: list[Path], tmp_path: Path
) -> None:
    source = [str(phantom_slices[0].parent)]
    made = {}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        done = sheet(source, tmp_path / name, segmenter=segmenter, count=4, seed=seed)
        assert done.failures == []
        made[name] = done.picture.read_bytes(), (tmp_path / name / "sheet.csv").read_bytes()
    assert made["a"] == made["b"]
    drawn, others = ([row["file"] for row in rows_of(tmp_path / name)] for name in "ac")
    assert len(set(drawn)) == 4
    assert drawn != others
    assert {Path(path) for path in drawn} <= set(phantom_slices)


def test_every_third_slice_is_turned_and_says_so(
    segmenter: Segmenter, phantom_slices: list[Path], tmp_path: Path
) -> None:
    files = [str(path) for path in phantom_slices]
    sheet(files, tmp_path, segmenter=segmenter)
    rows = rows_of(tmp_path)
    assert [row["number"] for row in rows] == [str(number + 1) for number in range(len(files))]
    turned = ["", "", "upside-down", "", "", "mirrored", "", "", "upside-down"]
    assert [row["turned"] for row in rows] == turned[: len(files)]
    assert {row["verdict"] for row in rows} == {""}
    for row in rows:
        truth = Path(row["file"]).parents[1] / "lungs" / Path(row["file"]).name
        with Image.open(truth) as image:
            assert float(row["lungs_share"]) == pytest.approx(np.mean(np.asarray(image) > 0), abs=0.02)
        assert 0 <= float(row["lesion_share"]) < 0.3
        assert (float(row["quality"]) > 0.8, row["problem"]) == (True, "")


def test_slices_are_turned_before_they_are_segmented(
    segmenter: Segmenter, phantom_slices: list[Path], tmp_path: Path
) -> None:
    files = [str(path) for path in phantom_slices[1:3]]
    for name, share in (("upright", 0.0), ("turned", 1.0)):
        sheet(files, tmp_path / name, segmenter=segmenter, turned=share)
    assert [row["turned"] for row in rows_of(tmp_path / "turned")] == ["upside-down", "mirrored"]
    upright, turned = grey_tiles(tmp_path / "upright", 2), grey_tiles(tmp_path / "turned", 2)
    for axis, before, after in zip((0, 1), upright, turned, strict=True):
        as_it_says, otherwise = (
            np.corrcoef(np.flip(before, way).ravel(), after.ravel())[0, 1] for way in (axis, 1 - axis)
        )
        assert as_it_says > 0.97 > 0.9 > otherwise
    # Turned after it, the right lung's outline would move to the other side.
    with Image.open(tmp_path / "turned" / "sheet.png") as image:
        mirrored = np.asarray(image.convert("RGB"), dtype=int)[:TILE, TILE:]
    blue = mirrored[..., 2] - mirrored[..., 0]
    assert blue[:, : TILE // 2].max() > 60 > blue[:, TILE // 2 :].max()


def test_what_cannot_be_read_is_listed_and_not_on_the_sheet(
    segmenter: Segmenter, phantom_slices: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    done = sheet([str(bad), *map(str, phantom_slices[:3])], tmp_path / "out", segmenter=segmenter)
    assert [failure.path for failure in done.failures] == [str(bad)]
    assert [row["number"] for row in rows_of(tmp_path / "out")] == ["1", "2", "3"]
    assert len(grey_tiles(tmp_path / "out", 3)) == 3
    with pytest.raises(GroundglassError, match="none of the 1 slices could be read; is not a picture"):
        sheet([str(bad)], tmp_path / "none", segmenter=segmenter)


def test_slices_come_from_manifests_and_paths_each_once(phantom_slices: list[Path], tmp_path: Path) -> None:
    rows = [
        {"path": str(path), "label": "covid", "patient": "p", "split": "", "source": "phantom"}
        for path in phantom_slices[:2]
    ]
    write_manifest(pd.DataFrame(rows), tmp_path / "some.csv")
    named = [str(tmp_path / "some.csv"), str(phantom_slices[1]), str(phantom_slices[3])]
    assert slice_files(named) == [phantom_slices[0], phantom_slices[1], phantom_slices[3]]


def test_mistakes_are_refused(segmenter: Segmenter, phantom_slices: list[Path], tmp_path: Path) -> None:
    files = [str(path) for path in phantom_slices[:1]]
    for wrong in ({"count": 0}, {"turned": 1.5}):
        with pytest.raises(
            GroundglassError, match="at least one slice, and a share of turned slices from 0 to 1"
        ):
            sheet(files, tmp_path, segmenter=segmenter, **wrong)
    own = tmp_path / "sheet.png"
    own.write_bytes(phantom_slices[0].read_bytes())
    with pytest.raises(GroundglassError, match="would be overwritten"):
        sheet([str(own)], tmp_path, segmenter=segmenter)
    assert own.read_bytes() == phantom_slices[0].read_bytes()
