import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from groundglass.bundle.fingerprints import (
    ALIKE,
    FINGERPRINTS,
    Fingerprints,
    file_print,
    mirrored,
    nearest,
    picture_print,
)
from groundglass.detect.bundle import Bundle
from groundglass.errors import BundleError
from groundglass.files import sha256
from groundglass.phantom import make_phantom, random_lesions
from groundglass.preprocess import Preprocessing
from groundglass.scan.read import read_scan
from groundglass.scan.scan import LUNG_WINDOW, apply_window

DATA = "0123456789abcdef" * 4
Picture = NDArray[np.uint8]


def bits_apart(one: Picture, other: Picture) -> int:
    return int(np.unpackbits(one ^ other).sum())


@pytest.fixture(scope="module")
def slices() -> list[Picture]:
    """A slice of each of eight phantoms, 160 x 200."""
    phantoms = (
        make_phantom(seed, shape=(3, 160, 200), lesions=random_lesions(seed, "covid")) for seed in range(8)
    )
    grey = (apply_window(phantom.scan.pixels[1], *LUNG_WINDOW) for phantom in phantoms)
    return [np.rint(one * 255).astype(np.uint8) for one in grey]


def recompressed(picture: Picture, quality: int = 30) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def rescaled(picture: Picture, width: int, height: int) -> Picture:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def gamma(picture: Picture, power: float) -> Picture:
    return np.rint(255 * (picture / 255) ** power).astype(np.uint8)


CHANGES = {
    "half the size": lambda picture: rescaled(picture, 100, 80),
    "twice the size, stretched": lambda picture: rescaled(picture, 400, 360),
    "JPEG 30": recompressed,
    "gamma 0.7": lambda picture: gamma(picture, 0.7),
    "gamma 1.4": lambda picture: gamma(picture, 1.4),
    "less contrast": lambda picture: np.rint(50 + 0.6 * picture).astype(np.uint8),
    "all": lambda picture: recompressed(gamma(rescaled(picture, 120, 96), 0.8)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_copy_keeps_its_fingerprint(change, slices: list[Picture]) -> None:  # type: ignore[no-untyped-def]
    for picture in slices:
        assert 0 <= bits_apart(picture_print(change(picture)), picture_print(picture)) <= ALIKE
        flipped = picture_print(np.ascontiguousarray(change(picture)[:, ::-1]))
        assert (
            bits_apart(mirrored(flipped), picture_print(picture))
            <= ALIKE
            < bits_apart(flipped, picture_print(picture))
        )


def test_other_persons_have_other_fingerprints(slices: list[Picture]) -> None:
    prints = np.array([picture_print(picture) for picture in slices])
    for number in range(len(slices)):
        others = np.delete(prints, number, axis=0)
        assert nearest(prints[[number]], others)[0][0] > ALIKE
        assert nearest(mirrored(prints[[number]]), others)[0][0] > ALIKE


def test_the_bits_are_the_signs_of_the_cosine_transform() -> None:
    # Means of 2 x 2 pixels, with grey so near its mean that none is clipped: its contrast then plays no part.
    picture = np.random.default_rng(0).integers(100, 120, (64, 64), dtype=np.uint8)
    picture[::2] = picture[1::2]
    picture[:, ::2] = picture[:, 1::2]
    small = picture[::2, ::2].astype(float)
    small_apart = np.clip(small - small.mean(), -1.5 * small.std(), 1.5 * small.std())
    waves = dctn(small_apart, norm="ortho")[:16, :16]
    wanted = waves > 0
    wanted[0, 0] = False
    found = np.unpackbits(picture_print(picture)).reshape(16, 16).astype(bool)
    sure = np.abs(waves) > 1e-6
    assert sure.sum() >= 255
    assert (found == wanted)[sure].all()


def test_mirroring_needs_no_picture_and_undoes_itself() -> None:
    for shape in ((33, 47), (200, 150), (20, 31)):
        picture = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        flipped = picture_print(np.ascontiguousarray(picture[:, ::-1]))
        assert bits_apart(mirrored(picture_print(picture)), flipped) <= 2
        assert (mirrored(mirrored(flipped)) == flipped).all()


def test_a_flat_picture_breaks_nothing() -> None:
    assert not picture_print(np.full((40, 40), 7, dtype=np.uint8)).any()


def test_the_nearest_is_that_with_the_fewest_bits_apart() -> None:
    generator = np.random.default_rng(2)
    prints, among = (generator.integers(0, 256, (count, 32), dtype=np.uint8) for count in (7, 5))
    apart, places = nearest(prints, among)
    table = [[bits_apart(one, other) for other in among] for one in prints]
    assert apart.tolist() == np.min(table, axis=1).tolist()
    assert places.tolist() == np.argmin(table, axis=1).tolist()
    assert [len(one) for one in nearest(prints[:0], among)] == [0, 0]


@pytest.fixture
def files(tmp_path: Path, slices: list[Picture]) -> list[Path]:
    paths = [tmp_path / f"patient-smith-{number}.png" for number in range(len(slices))]
    for path, picture in zip(paths, slices, strict=True):
        Image.fromarray(picture).save(path)
    return paths


PARTS = ["train"] * 4 + ["val"] * 2 + ["test", ""]


def test_what_was_trained_and_chosen_on_is_kept_and_no_more(files: list[Path], slices: list[Picture]) -> None:
    kept = Fingerprints.of(files, PARTS, DATA)
    counted = sum(part in ("train", "val", "test") for part in PARTS)
    assert (len(kept), (kept.parts == 1).sum(), kept.data) == (counted, 2, DATA)
    assert (len(kept.trained()), set(kept.trained().parts.tolist())) == (6, {0, 1})
    assert kept.parts_of([*files, Path(__file__)]) == [*PARTS, ""]
    for path, picture, part in list(zip(files, slices, PARTS, strict=True))[:6]:
        (place,) = np.flatnonzero((kept.files == file_print(path)).all(axis=1))
        assert kept.files[place].tobytes().hex() == sha256(path)[:32]
        assert (kept.pictures[place] == picture_print(picture)).all()
        assert (kept.parts[place] == 1) == (part == "val")


def test_the_bytes_are_few_independent_of_order_and_read_back(files: list[Path]) -> None:
    content = Fingerprints.of(files, PARTS, DATA).to_bytes()
    assert len(content) <= 48 + 7 * 49
    order = np.random.default_rng(0).permutation(len(files))
    shuffled = Fingerprints.of([files[row] for row in order], [PARTS[row] for row in order], DATA)
    assert shuffled.to_bytes() == content
    again = Fingerprints.from_bytes(content, Path("x"))
    assert again.to_bytes() == content
    assert again.data == DATA
    assert b"smith" not in content


def test_damage_anywhere_is_reported(files: list[Path]) -> None:
    content = Fingerprints.of(files, PARTS, DATA).to_bytes()
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 1
        with pytest.raises(BundleError, match=r"the-bundle: fingerprints\.bin is damaged"):
            Fingerprints.from_bytes(bytes(damaged), Path("the-bundle"))
    for part in (b"", content[:60], content[:-49], content[: len(content) // 2]):
        with pytest.raises(BundleError, match="is damaged"):
            Fingerprints.from_bytes(part, Path("x"))


def test_an_exported_bundle_knows_the_slices_of_its_run(trained: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(trained / "bundle")
    manifest = pd.read_csv(trained / "manifest.csv", keep_default_na=False)
    kept = bundle.fingerprints
    assert kept is not None
    assert (len(kept), int((kept.parts == 1).sum())) == (48, 12)
    assert manifest["split"].value_counts().to_dict() == {"train": 24, "val": 12, "test": 12}
    paths = [trained / path for path in manifest.loc[manifest["split"] == "val", "path"]]
    assert {file_print(path).tobytes() for path in paths} == {
        one.tobytes() for one in kept.files[kept.parts == 1]
    }
    pictures = np.array([picture_print(Preprocessing().picture(read_scan(path))) for path in paths])
    assert nearest(pictures, kept.pictures[kept.parts == 1])[0].max() == 0
    bundle.write(tmp_path / "x.zip")
    zipped = Bundle.load(tmp_path / "x.zip").fingerprints
    assert zipped is not None
    assert zipped.to_bytes() == kept.to_bytes() == (trained / "bundle" / FINGERPRINTS).read_bytes()


def test_a_bundle_from_before_has_none_and_stays_so(bundle_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "old"))
    (folder / FINGERPRINTS).unlink()
    old = Bundle.load(folder)
    assert old.fingerprints is None
    old.write(tmp_path / "old.zip")
    assert Bundle.load(tmp_path / "old.zip").fingerprints is None


def test_fingerprints_of_another_bundle_are_refused(
    bundle_folder: Path, files: list[Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "other"))
    (folder / FINGERPRINTS).write_bytes(Fingerprints.of(files, PARTS, DATA).to_bytes())
    with pytest.raises(BundleError, match="does not belong to the data that the bundle was trained on"):
        Bundle.load(folder)
    (folder / FINGERPRINTS).write_bytes(b"no fingerprints")
    with pytest.raises(BundleError, match="is damaged"):
        Bundle.load(folder)


def test_the_shipped_detectors_know_the_slices_that_they_were_trained_on() -> None:
    bundle = Bundle.load()
    parts = bundle.facts.training.parts
    assert bundle.fingerprints is not None
    assert int((bundle.fingerprints.parts == 0).sum()) == parts["train"].slices
    assert int((bundle.fingerprints.parts == 1).sum()) == parts["val"].slices
