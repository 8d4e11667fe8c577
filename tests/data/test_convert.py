from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from groundglass.data import datasets
from groundglass.data.convert import convert
from groundglass.data.layouts import rows_of
from groundglass.data.registry import DATASETS
from groundglass.errors import GroundglassError
from groundglass.phantom import make_phantom, random_lesions
from phantom_nifti import write_nifti


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def read(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.fixture
def phantom():
    return make_phantom(3, shape=(6, 96, 96), lesions=random_lesions(3, "covid"))


def test_volumes_become_upright_slices_with_masks(phantom, tmp_path: Path) -> None:
    published, folder = tmp_path / "zips", tmp_path / "radiopaedia-volumes"
    for orientation, number in (("RAS", "2"), ("LPI", "3")):
        for sub, content in (("rp_im", "hu"), ("rp_lung_msk", "lungs"), ("rp_msk", "lesions")):
            (published / sub).mkdir(parents=True, exist_ok=True)
            path = published / sub / f"{number}.nii.gz"
            write_nifti(phantom, path, content=content, orientation=orientation)
    assert convert("radiopaedia-volumes", published, folder) == 12
    assert phantom.lesions.max() > 2, "a value that is neither ground glass nor consolidation"
    dataset = DATASETS["radiopaedia-volumes"]
    datasets.verify(dataset, folder)
    rows = rows_of(dataset, folder)
    assert set(rows["patient"]) == {"radiopaedia_10"}
    assert list(rows["volume"]) == ["2"] * 6 + ["3"] * 6
    for index, (_, row) in enumerate(rows.iterrows()):
        truth = phantom.lungs[index % 6] > 0
        assert np.array_equal(read(row["lungs"]) == 255, truth)
        assert np.array_equal(read(row["lesions"]) == 255, np.isin(phantom.lesions[index % 6], (1, 2)))
        grey = read(row["path"])
        assert not truth.any() or grey[truth].mean() < grey[~truth].mean()
    (published / "rp_msk/3.nii.gz").unlink()
    with pytest.raises(GroundglassError, match=r"has no mask for 3\.nii\.gz"):
        convert("radiopaedia-volumes", published, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_types_of_lesions_are_recoded_and_turned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = np.zeros((30, 40), np.uint8)
    marked[:5, :10], marked[20:, 30:] = 38, 75
    for part, stem in (("Train", "0"), ("Test", "7")):
        half = tmp_path / "inf-net" / f"MultiClassInfection-{part}"
        save(half / "Imgs" / f"{stem}.png", np.full((30, 40), 90, np.uint8))
        save(half / "GT" / f"{stem}.png", marked)
    assert convert("medseg", tmp_path / "inf-net", tmp_path / "medseg", turn="left") == 2
    dataset = DATASETS["medseg"]
    with pytest.raises(GroundglassError, match="found 2 slices of class covid, but medseg has 98"):
        rows_of(dataset, tmp_path / "medseg")
    rows = rows_of(type(dataset)(**{**vars(dataset), "classes": {"covid": 2}}), tmp_path / "medseg")
    assert list(rows["split"]) == ["train", "test"]
    expected = np.rot90(np.select([marked == 38, marked == 75], [127, 254], 0))
    assert np.array_equal(read(rows["lesion_types"][0]), expected)
    shares = pd.read_csv(tmp_path / "medseg/slices.csv")
    assert shares["ground_glass"].tolist() == [round(50 / 1200, 4)] * 2
    save(tmp_path / "inf-net/MultiClassInfection-Test/GT/7.png", marked + 5)
    with pytest.raises(GroundglassError, match=r"7\.png: its values .* are neither"):
        convert("medseg", tmp_path / "inf-net", tmp_path / "again")


@pytest.mark.parametrize(
    ("name", "folders"),
    [
        ("iq-othnccd", {"normal": "Normal cases", "benign": "Bengin cases", "malignant": "Malignant cases"}),
        (
            "emphysema-slices",
            {name: name.upper() for name in ("normal", "panlobular", "paraseptal", "centriacinar")},
        ),
    ],
)
def test_class_folders_are_copied_unchanged(name: str, folders: dict[str, str], tmp_path: Path) -> None:
    for number, sub in enumerate(folders.values()):
        save(tmp_path / "published/below" / sub / "1.jpg", np.full((20, 20), 40 * number, np.uint8))
    folder = tmp_path / name
    assert convert(name, tmp_path / "published", folder) == len(folders)
    for label, sub in folders.items():
        original = tmp_path / "published/below" / sub / "1.jpg"
        assert (folder / label / "1.jpg").read_bytes() == original.read_bytes()
    with pytest.raises(GroundglassError, match="already exists"):
        convert(name, tmp_path / "published", folder)


def test_what_cannot_be_converted_is_named(tmp_path: Path) -> None:
    with pytest.raises(GroundglassError, match="covid-ct: no converter for this dataset"):
        convert("covid-ct", tmp_path, tmp_path / "out")
    with pytest.raises(GroundglassError, match="has no folder normal; unpack"):
        convert("iq-othnccd", tmp_path, tmp_path / "out")
