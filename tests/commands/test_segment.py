import csv
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from groundglass.commands.segment import segment
from groundglass.errors import GroundglassError
from groundglass.files import unique_names
from groundglass.scan.read import read_scan
from groundglass.scan.scan import Scan
from groundglass.segment.masks import Segmentation
from groundglass.segment.segmenter import AHEAD, Segmenter


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "shares.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def mask(path: Path) -> NDArray[np.bool_]:
    """A written mask, which must be a valid mask."""
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        values = np.asarray(image)
    assert set(np.unique(values)) <= {0, 255}
    return values > 0


def most_diseased(slices: list[Path]) -> Path:
    return max(slices, key=lambda path: mask(path.parents[1] / "lesions" / path.name).sum())


def noise(path: Path) -> Path:
    grey = np.random.default_rng(0).integers(0, 256, (150, 170), dtype=np.uint8)
    Image.fromarray(grey).save(path)
    return path


def test_masks_and_shares_are_those_of_the_phantom(
    segmenter: Segmenter, phantom_slices: list[Path], tmp_path: Path
) -> None:
    result = segment(phantom_slices, tmp_path, segmenter=segmenter)
    assert not result.failures
    for path, row in zip(phantom_slices, rows_of(tmp_path), strict=True):
        lungs, lesions = (mask(tmp_path / f"{path.stem}_{name}.png") for name in ("lungs", "lesions"))
        true_lungs, true_lesions = (mask(path.parents[1] / name / path.name) for name in ("lungs", "lesions"))
        assert lungs.shape == true_lungs.shape
        assert 2 * (lungs & true_lungs).sum() / (lungs.sum() + true_lungs.sum()) > 0.9
        assert not (lesions & ~lungs).any()
        assert (row["path"], row["problem"]) == (str(path), "")
        assert (int(row["lungs_px"]), int(row["lesions_px"])) == (lungs.sum(), lesions.sum())
        true_right = true_lungs[:, :80].sum()
        assert int(row["right_lung_px"]) == pytest.approx(true_right, rel=0.05)
        assert float(row["right_lesion_share"]) == pytest.approx(true_lesions.sum() / true_right, abs=0.03)
        assert float(row["left_lesion_share"]) < 0.03
        with Image.open(tmp_path / "overlays" / path.name) as drawn:
            assert (drawn.mode, drawn.size) == ("RGB", lungs.shape[::-1])
    assert max(float(row["right_lesion_share"]) for row in rows_of(tmp_path)) > 0.1
    assert phantom_slices[0].name in (tmp_path / "report.html").read_text()


def test_the_right_lung_is_at_the_pictures_left(
    segmenter: Segmenter, phantom_slices: list[Path], tmp_path: Path
) -> None:
    as_it_is = most_diseased(phantom_slices)
    with Image.open(as_it_is) as image:
        ImageOps.mirror(image).save(tmp_path / "mirrored.png")
    segment([as_it_is, tmp_path / "mirrored.png"], tmp_path / "out", segmenter=segmenter)
    first, second = rows_of(tmp_path / "out")
    assert int(first["right_lesions_px"]) > 100 > int(first["left_lesions_px"])
    assert int(second["left_lesions_px"]) > 100 > int(second["right_lesions_px"])


def test_equal_names_do_not_overwrite_each_other(
    segmenter: Segmenter, phantom_slices: list[Path], tmp_path: Path
) -> None:
    files = [tmp_path / name / "slice.png" for name in "ab"]
    for file, source in zip(files, (phantom_slices[0], phantom_slices[4]), strict=True):
        file.parent.mkdir()
        file.write_bytes(source.read_bytes())
    result = segment(files, tmp_path / "out", segmenter=segmenter)
    for row, name, entry in zip(result.rows, ("slice", "slice-2"), result.document["slices"], strict=True):
        assert entry["masks"]["lungs"] == f"{name}_lungs.png"
        assert mask(tmp_path / "out" / f"{name}_lungs.png").sum() == row.shares.both.lung_px
        assert (tmp_path / "out" / "overlays" / f"{name}.png").is_file()
    assert result.rows[0].shares != result.rows[1].shares


@given(st.lists(st.sampled_from(["a", "A", "a-2", "a-2-2", "b"]), max_size=12))
def test_names_are_unique(stems: list[str]) -> None:
    files = [Path(str(number)) / f"{stem}.png" for number, stem in enumerate(stems)]
    names = unique_names(files)
    assert list(names) == files
    assert len({name.lower() for name in names.values()}) == len(files)
    assert all(name.startswith(path.stem) for path, name in names.items())


def test_what_is_not_a_chest_ct_gets_empty_masks_and_a_problem(
    segmenter: Segmenter, phantom_slices: list[Path], tmp_path: Path
) -> None:
    files = [noise(tmp_path / "n.png"), most_diseased(phantom_slices)]
    result = segment(files, tmp_path / "out", segmenter=segmenter)
    assert result.rows[0].shares.both.lung_px > 0  # the thresholds mistake something for lungs
    strange, usual = rows_of(tmp_path / "out")
    assert strange["problem"].startswith("no lungs")
    assert (strange["lungs_px"], strange["lesion_share"], usual["problem"]) == ("", "", "")
    for name in ("lungs", "lesions"):
        written = mask(tmp_path / "out" / f"n_{name}.png")
        assert written.shape == (150, 170)
        assert not written.any()
    entry = result.document["slices"][0]
    assert (entry["both"], entry["problem"]) == (None, strange["problem"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "1 of 2 slices show lungs, 1 of these with lesions" in page
    assert strange["problem"] in page


def test_a_file_that_cannot_be_read_stops_nothing(
    segmenter: Segmenter, phantom_slices: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    result = segment([bad, phantom_slices[0]], tmp_path / "out", segmenter=segmenter, overlays=False)
    assert [row["path"] for row in rows_of(tmp_path / "out")] == [str(phantom_slices[0])]
    assert [failure.path for failure in result.failures] == [str(bad)]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "bad.png" in page
    assert "<img" not in page
    assert not (tmp_path / "out" / "overlays").exists()
    nothing = segment([bad], tmp_path / "nothing", segmenter=segmenter)
    assert (nothing.rows, rows_of(tmp_path / "nothing")) == ([], [])


def test_areas_are_in_mm2_where_the_spacing_is_known(
    segmenter: Segmenter, phantom_slices: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spaced(path: Path) -> Scan:
        return replace(read_scan(path), spacing=(2.0, 1.5))

    monkeypatch.setattr("groundglass.segment.segmenter.read_scan", spaced)
    segment(phantom_slices[:1], tmp_path, segmenter=segmenter, overlays=False)
    (row,) = rows_of(tmp_path)
    assert float(row["lungs_mm2"]) == 3 * int(row["lungs_px"]) > 0


def test_a_slice_is_never_overwritten_by_a_mask(segmenter: Segmenter, tmp_path: Path) -> None:
    """A second run that finds the masks of the first among its slices must not change them."""
    files = [noise(tmp_path / "n.png"), noise(tmp_path / "n_lungs.png")]
    with pytest.raises(GroundglassError, match=r"n_lungs\.png: would be overwritten"):
        segment(files, tmp_path, segmenter=segmenter)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.png", "n_lungs.png"]


def test_few_slices_are_in_memory_at_once(
    segmenter: Segmenter, phantom_slices: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((_, answer),) = segmenter.segment_files(phantom_slices[:1])
    assert isinstance(answer, tuple)
    segmented, written, waiting = [], [], []

    def segment_files(paths: list[Path]) -> Iterator[tuple[Path, tuple[Scan, Segmentation]]]:
        for path in paths:
            segmented.append(path)
            waiting.append(len(segmented) - len(written))
            yield path, answer

    def write_masks(folder: Path, name: str, *_: object) -> None:
        time.sleep(0.005)
        written.append(name)

    monkeypatch.setattr(segmenter, "segment_files", segment_files)
    monkeypatch.setattr("groundglass.commands.segment._write_masks", write_masks)
    files = [tmp_path / f"{number}.png" for number in range(40)]
    segment(files, tmp_path / "out", segmenter=segmenter, overlays=False)
    assert len(written) == 40
    assert max(waiting) <= AHEAD + 3
