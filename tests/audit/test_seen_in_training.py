from pathlib import Path

import numpy as np
import pytest
from answered import answered
from PIL import Image
from scipy.ndimage import gaussian_filter

from groundglass.audit.check import NotApplicable
from groundglass.audit.detector.seen_in_training import SeenInTraining
from groundglass.audit.material import small_picture
from groundglass.audit.trial import Trial
from groundglass.bundle.fingerprints import Fingerprints


def picture(number: int) -> np.ndarray:
    """A unique smooth picture, uint8, (180, 220)."""
    waves = gaussian_filter(np.random.default_rng(number).normal(size=(180, 220)), 9)
    return np.rint(255 * (waves - waves.min()) / np.ptp(waves)).astype(np.uint8)


def written(folder: Path, pictures: list[np.ndarray], ending: str = "png") -> list[str]:
    folder.mkdir()
    paths = [str(folder / f"{number}.{ending}") for number in range(len(pictures))]
    for path, one in zip(paths, pictures, strict=True):
        Image.fromarray(one).save(path)
    return paths


@pytest.fixture
def known(tmp_path: Path) -> Fingerprints:
    """Fingerprints of 12 slices, of which numbers 10 and 11 are in the validation set."""
    paths = written(tmp_path / "known", [picture(number) for number in range(12)])
    return Fingerprints.of(paths, ["train"] * 10 + ["val"] * 2, "ab" * 32)


def trial_of(
    folder: Path, pictures: list[np.ndarray], known: Fingerprints | None, ending: str = "png"
) -> Trial:
    paths = written(folder, pictures, ending)
    trial = answered([True] * len(paths), [0.5] * len(paths))
    trial.material.manifest["path"] = paths
    trial.material.pictures.grey[:] = [small_picture(one) for one in pictures]
    trial.detector.bundle.fingerprints = known
    return trial


def test_other_slices_pass(tmp_path: Path, known: Fingerprints) -> None:
    result = SeenInTraining().run(
        trial_of(tmp_path / "t", [picture(number) for number in range(20, 60)], known)
    )
    assert (result.severity, result.figure.value, result.files) == (None, 0, ())
    assert "None of the 40 slices is among the 12" in result.message
    assert "cannot tell" in result.message


def test_a_file_that_was_trained_on_is_found_under_another_name(tmp_path: Path, known: Fingerprints) -> None:
    trial = trial_of(tmp_path / "t", [picture(number) for number in (20, 4, 10)], known)
    result = SeenInTraining().run(trial)
    assert (result.severity, result.figure.value) == ("error", 2)
    assert result.files == (str(tmp_path / "t/1.png"), str(tmp_path / "t/2.png"))
    assert [row[1:] for row in result.rows] == [
        ("the same file", "training", "0"),
        ("the same file", "validation", "0"),
    ]
    assert "2 as the same file, 0 as the same picture" in result.message
    assert "1 of the training set, 1 of the validation set" in result.message


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_picture_is_known_at_another_size_and_contrast_and_mirrored(
    tmp_path: Path, known: Fingerprints, mirrored: bool
) -> None:
    pictures = [picture(number) for number in (3, 30, 11)]
    changed = [
        np.asarray(Image.fromarray(np.rint(60 + 0.6 * one).astype(np.uint8)).resize((150, 120)))[
            :, :: -1 if mirrored else 1
        ]
        for one in pictures
    ]
    result = SeenInTraining().run(trial_of(tmp_path / "t", changed, known, "jpg"))
    assert result.severity == "error"
    assert sorted(result.files) == [str(tmp_path / f"t/{number}.jpg") for number in (0, 2)]
    parts = {row[0]: row[2] for row in result.rows}
    assert parts == {str(tmp_path / "t/0.jpg"): "training", str(tmp_path / "t/2.jpg"): "validation"}
    how = "the same picture mirrored" if mirrored else "the same picture"
    assert {row[1] for row in result.rows} == {how}
    assert f"2 as {how}" in result.message


def test_without_fingerprints_it_does_not_apply(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="no fingerprints of its training slices"):
        SeenInTraining().run(trial_of(tmp_path / "t", [picture(1)], None))
