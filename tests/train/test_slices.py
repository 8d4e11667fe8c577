from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundglass.errors import GroundglassError
from groundglass.preprocess import Preprocessing
from groundglass.recipe.parts import Augmentation, Data
from groundglass.recipe.recipe import ClassificationRecipe
from groundglass.scan.find import find_scans
from groundglass.scan.read import read_scan
from groundglass.train.augment import Augment
from groundglass.train.slices import Batches, Slices, decode, make_loader
from groundglass.train.tasks.classify import ClassifierModule

PREPROCESSING = Preprocessing(size=(32, 40), channels=3)


def test_training_and_prediction_see_equal_arrays(class_folder: Path) -> None:
    """Without augmentation, training and prediction feed identical arrays to a model."""
    files = find_scans([class_folder])[:9]
    grey = decode(files, PREPROCESSING)
    loader = make_loader(Slices(grey, np.zeros(9, dtype=np.int64)), batch_size=4)
    module = ClassifierModule(
        ClassificationRecipe(name="x", data=Data(dataset="x"), preprocessing=PREPROCESSING), [1, 1]
    )
    trained_on = torch.cat([module.images(batch.to(torch.float32) / 255) for batch, _ in loader]).numpy()
    predicted_on = np.stack([PREPROCESSING(read_scan(file)) for file in files])
    np.testing.assert_array_equal(trained_on, predicted_on)


def test_the_cache_is_used_until_a_file_changes(
    class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUNDGLASS_CACHE", str(tmp_path / "cache"))
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file, source in zip(files, find_scans([class_folder]), strict=False):
        file.write_bytes(source.read_bytes())
    first = decode(files, PREPROCESSING)
    with monkeypatch.context() as patch:
        patch.setattr("groundglass.segment.segmenter.read_scan", None)
        np.testing.assert_array_equal(decode(files, PREPROCESSING), first)
    files[1].write_bytes(find_scans([class_folder])[-1].read_bytes())
    assert (decode(files, PREPROCESSING)[1] != first[1]).any()
    for entry in (tmp_path / "cache").rglob("*.npy"):
        entry.write_bytes(b"damaged")
    np.testing.assert_array_equal(decode(files, PREPROCESSING)[0], first[0])


def test_the_cache_depends_on_the_decoding_and_not_on_the_version(
    class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUNDGLASS_CACHE", str(tmp_path / "cache"))
    files = find_scans([class_folder])[:2]

    def entries() -> int:
        decode(files, PREPROCESSING)
        return len(list((tmp_path / "cache").rglob("*.npy")))

    assert entries() == 1
    monkeypatch.setattr("groundglass.__version__", "9.9")
    assert entries() == 1
    monkeypatch.setattr("groundglass.train.slices.DECODING_FORMAT", 1000)
    assert entries() == 2
    decode(files, PREPROCESSING.model_copy(update={"size": (16, 16)}))
    assert entries() == 3


def test_files_that_cannot_be_read_are_named(class_folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(GroundglassError, match=r"1 of 2 slices cannot be read:\n.*bad\.png"):
        decode([find_scans([class_folder])[0], bad], PREPROCESSING)


@given(st.integers(2, 100), st.integers(2, 20), st.integers(0, 50))
def test_an_epoch_has_each_slice_once_in_its_own_order(count: int, size: int, epoch: int) -> None:
    batches = Batches(count, size, seed=1)
    batches.set_epoch(epoch)
    drawn = list(batches)
    assert sorted(chain.from_iterable(drawn)) == list(range(count))
    assert len(drawn) == len(batches)
    assert all(len(batch) >= 2 for batch in drawn)
    assert list(batches) == drawn
    batches.set_epoch(epoch + 1)
    if count > 20:
        assert list(batches) != drawn


def test_an_epoch_of_given_steps_repeats_slices_in_new_orders() -> None:
    batches = Batches(10, 4, seed=1, steps=7)
    drawn = list(batches)
    assert len(drawn) == len(batches) == 7
    assert [len(batch) for batch in drawn] == [4, 4, 2, 4, 4, 2, 4]
    first, second = (sorted(chain.from_iterable(drawn[start : start + 3])) for start in (0, 3))
    assert first == second == list(range(10))
    assert drawn[:3] != drawn[3:6]
    assert list(batches) == drawn
    assert len(list(Batches(100, 4, seed=1, steps=2))) == 2


def test_augmentation_can_fill_with_the_border_and_zoom_each_axis() -> None:
    grey = torch.full((4, 32, 32), 0.5)
    torch.manual_seed(0)
    assert Augment(Augmentation(shift=0.3))(grey).min() == 0
    torch.testing.assert_close(Augment(Augmentation(shift=0.3, fill="nearest"))(grey), grey)
    ramp = torch.linspace(0, 1, 32).expand(4, 32, 32)
    zoomed = Augment(Augmentation(zoom=0.2, zoom_axes=True, fill="nearest"))(ramp)
    transposed = Augment(Augmentation(zoom=0.2, fill="nearest"))(ramp)
    slopes = (zoomed[:, 16, 17] - zoomed[:, 16, 15], transposed[:, 16, 17] - transposed[:, 16, 15])
    assert all(len(set(slope.tolist())) == 4 for slope in slopes)


def test_augmentation_keeps_range_and_is_repeatable() -> None:
    spec = Augmentation(
        flip=0.5, rotation=20, shift=0.1, zoom=0.2, shear=5, gamma=0.3, brightness=0.2, contrast=0.2, blur=1,
        resolution=3, noise=0.1, erase=0.2,
    )  # fmt: skip
    grey = torch.rand(6, 40, 32)
    augment = Augment(spec)

    def draw() -> torch.Tensor:
        torch.manual_seed(5)
        return augment(grey)

    first = draw()
    assert first.shape == grey.shape
    assert 0 <= first.min() <= first.max() <= 1
    assert not torch.equal(first, grey)
    torch.testing.assert_close(draw(), first, rtol=0, atol=0)
    assert torch.equal(Augment(Augmentation())(grey), grey)


def test_augmentation_keeps_its_precision_in_a_bf16_training_step() -> None:
    augment, grey = Augment(Augmentation(rotation=20, zoom=0.2)), torch.rand(4, 64, 64)

    def draw(autocast: bool) -> torch.Tensor:
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return augment(grey)

    torch.testing.assert_close(draw(True), draw(False), rtol=0, atol=0)
