import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from groundglass.data import datasets, folders
from groundglass.data.manifest import fingerprint, read_manifest, summarise
from groundglass.data.registry import DATASETS
from groundglass.data.splits import groups, split
from groundglass.errors import GroundglassError

Draw = Callable[..., Path]


def sizes(frame) -> dict[tuple[str, str], int]:
    return {(part, label): slices for part, label, slices, _ in summarise(frame).itertuples(index=False)}


@pytest.fixture
def small_seg(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with two slices of covid19-ct-seg."""
    names = [f"{kind}/{number}.png" for kind in ("ct", "lungs", "covid") for number in ("0000", "0002")]
    scans = draw(*(f"covid19-ct-seg/{name}" for name in names))
    (scans / "covid19-ct-seg/slices.csv").write_text("file,volume,case\n0000.png,v1,c1\n0002.png,v2,c1\n")
    monkeypatch.setenv("GROUNDGLASS_MIRROR", str(scans))
    dataset = DATASETS["covid19-ct-seg"]
    monkeypatch.setitem(DATASETS, dataset.name, type(dataset)(**{**vars(dataset), "classes": {"covid": 2}}))
    return scans / "covid19-ct-seg"


def test_the_mirror_is_used_in_place_and_never_written(small_seg: Path) -> None:
    before = sorted(small_seg.rglob("*"))
    assert folders.locate("covid19-ct-seg") == small_seg
    path = datasets.get("covid19-ct-seg")
    assert path == folders.data_folder() / "covid19-ct-seg" / "manifest.csv"
    assert sorted(small_seg.rglob("*")) == before
    frame = read_manifest(path)
    assert frame.to_numpy().tolist() == [
        [
            str(small_seg / "ct" / name),
            "covid",
            "c1",
            "",
            "covid19-ct-seg",
            volume,
            str(small_seg / "lungs" / name),
            str(small_seg / "covid" / name),
        ]
        for name, volume in (("0000.png", "v1"), ("0002.png", "v2"))
    ]
    assert list(frame.columns[5:]) == ["volume", "lungs", "lesions"]


def test_the_mirror_takes_precedence_over_the_data_folder(
    small_seg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = folders.data_folder() / "covid19-ct-seg"
    shutil.copytree(small_seg, own)
    assert folders.locate("covid19-ct-seg") == small_seg
    (small_seg / "slices.csv").unlink()
    assert folders.locate("covid19-ct-seg") == own
    monkeypatch.setenv("GROUNDGLASS_MIRROR", str(small_seg / "nowhere"))
    with pytest.raises(GroundglassError, match=r"GROUNDGLASS_MIRROR names .*nowhere, which is not a folder"):
        folders.locate("covid19-ct-seg")


def test_a_missing_mask_is_named(small_seg: Path) -> None:
    (small_seg / "covid/0002.png").unlink()
    with pytest.raises(GroundglassError, match=r"missing: covid/0002\.png"):
        datasets.get("covid19-ct-seg")


def test_numbered_files_are_checked_by_name(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"sarscov2-ct/COVID/Covid ({number}).png" for number in (1, 2, 2001)]
    scans = draw(*names, "sarscov2-ct/COVID/Covid (2).jpg", "sarscov2-ct/non-COVID/Non-Covid (1).png")
    monkeypatch.setenv("GROUNDGLASS_MIRROR", str(scans))
    with pytest.raises(GroundglassError, match="files affected: 2479") as caught:
        datasets.get("sarscov2-ct")
    assert "missing: COVID/Covid (3).*" in str(caught.value)
    assert "and 2474 more" in str(caught.value)


def test_a_login_set_gives_the_steps_and_takes_what_is_put_there(draw: Draw) -> None:
    with pytest.raises(
        GroundglassError, match="ccap is not on this machine and has to be downloaded by hand"
    ) as caught:
        datasets.get("ccap")
    folder = folders.data_folder() / "ccap"
    assert f"2. Put one subfolder per class into {folder}" in str(caught.value)
    shutil.copytree(draw("COVID-19/a.png", "Mycoplasma/b.png"), folder)
    for _ in range(2):
        frame = read_manifest(datasets.get("ccap"))
        assert list(frame["label"]) == ["covid", "mycoplasma"]


def test_load_dataset_takes_names_tables_and_folders(draw: Draw, small_seg: Path, tmp_path: Path) -> None:
    assert len(datasets.load_dataset("covid19-ct-seg")) == 2
    assert len(datasets.load_dataset(datasets.get("covid19-ct-seg"))) == 2
    folder = tmp_path / "classes"
    shutil.copytree(small_seg / "ct", folder / "covid")
    shutil.copytree(small_seg / "lungs", folder / "normal")
    assert set(datasets.load_dataset(folder)["label"]) == {"covid", "normal"}
    with pytest.raises(GroundglassError, match=r"covid-tc: no dataset has this name .did you mean covid-ct"):
        datasets.load_dataset("covid-tc")
    with pytest.raises(GroundglassError, match=r"gone\.csv: there is no such file"):
        datasets.load_dataset("gone.csv")


def test_covid_ct_has_the_published_parts_and_patients(real_mirror: Path) -> None:
    frame = datasets.load_dataset("covid-ct")
    assert sizes(frame) == {
        ("train", "covid"): 191,
        ("train", "not covid"): 234,
        ("val", "covid"): 60,
        ("val", "not covid"): 58,
        ("test", "covid"): 98,
        ("test", "not covid"): 105,
    }
    patients = frame.groupby("label")["patient"].nunique()
    assert (patients["covid"], patients["not covid"]) == (213, 171)
    assert (frame["patient"] != "").all()
    assert frame.groupby("patient")["split"].nunique().max() == 1
    assert all(path.startswith(str(real_mirror)) for path in frame["path"])


def test_sarscov2_ct_has_the_published_counts(real_mirror: Path) -> None:
    frame = datasets.load_dataset("sarscov2-ct")
    assert sizes(frame) == {("", "covid"): 1252, ("", "not covid"): 1229}
    # 1252 numbers make 60 blocks of 21, the 1229 up to 1230 make 59: about the 120 patients of the paper.
    assert groups(frame).nunique() == 119
    grouped = split(frame, "grouped")
    assert groups(grouped).groupby(groups(grouped)).size().max() == 21
    assert grouped.groupby(groups(grouped))["split"].nunique().max() == 1
    started = time.perf_counter()
    assert fingerprint(frame) == fingerprint(frame.sample(frac=1, random_state=0))
    assert time.perf_counter() - started < 10


def test_the_subset_splits_1600_to_420(real_mirror: Path) -> None:
    frame = datasets.load_dataset("sarscov2-ct-1010")
    assert sizes(frame) == {("", "covid"): 1010, ("", "not covid"): 1010}
    blocks = split(frame, "blocks")
    assert (blocks["split"].value_counts()["train"], blocks["split"].value_counts()["val"]) == (1600, 420)
    names = [Path(path).stem for path in blocks["path"][blocks["split"] == "val"]]
    assert (names[0], names[209], names[-1]) == ("Covid (801)", "Covid (1010)", "Non-Covid (1011)")


def test_covid19_ct_seg_has_masks_and_18_cases(real_mirror: Path) -> None:
    frame = datasets.load_dataset("covid19-ct-seg")
    assert (len(frame), frame["patient"].nunique(), set(frame["label"])) == (807, 18, {"covid"})
    assert all(Path(mask).is_file() for column in ("lungs", "lesions") for mask in frame[column])


def test_sets_without_covid_mark_which_slices_show_no_lesion(real_mirror: Path) -> None:
    tumours, emphysema = datasets.load_dataset("iq-othnccd"), datasets.load_dataset("emphysema-slices")
    assert (len(tumours), len(emphysema)) == (1097, 1108)
    assert set(emphysema["lesions"]) == {"none"}
    assert tumours.groupby("label")["lesions"].unique().str[0].to_dict() == {
        "normal": "none",
        "benign": "",
        "malignant": "",
    }


def test_medseg_has_types_of_lesions_and_radiopaedia_has_patients(real_mirror: Path) -> None:
    medseg = datasets.load_dataset("medseg")
    assert sizes(medseg) == {("train", "covid"): 50, ("test", "covid"): 48}
    assert all(Path(mask).is_file() for mask in medseg["lesion_types"])
    volumes = datasets.load_dataset("radiopaedia-volumes")
    cases = set(datasets.load_dataset("covid19-ct-seg")["patient"])
    assert (len(volumes), volumes["volume"].nunique()) == (516, 9)
    assert set(volumes["patient"]) < cases
