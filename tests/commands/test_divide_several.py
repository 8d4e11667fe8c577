from pathlib import Path

import pandas as pd
import pytest

from groundglass.data.splits import LeakageWarning
from groundglass.errors import GroundglassError
from groundglass.recipe.divide import divide, divided_scans, sources_of
from groundglass.recipe.parts import Data

pytestmark = pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")

Scans = list[tuple[str, str, str]]


def site(file: Path, scans: Scans, split: str = "") -> str:
    """A manifest of empty files, from (label, patient, source); its path."""
    rows = []
    for number, (label, patient, source) in enumerate(scans):
        picture = file.parent / f"{file.stem}-{number}.png"
        picture.write_bytes(f"{file.stem} {number}".encode())
        rows.append((picture.name, label, patient, split, source))
    pd.DataFrame(rows, columns=["path", "label", "patient", "split", "source"]).to_csv(file, index=False)
    return str(file)


def scans(source: str, patients: int = 8) -> Scans:
    """Two slices of each patient, every second patient with covid."""
    return [(("covid", "normal")[n % 2], f"p{n}", source) for n in range(patients) for _ in range(2)]


@pytest.fixture
def two(tmp_path: Path) -> Data:
    """Two datasets: one with the source north, one whose source is blank."""
    north, south = site(tmp_path / "a.csv", scans("north")), site(tmp_path / "south.csv", scans("", 6))
    further = [{"dataset": south, "split": "grouped", "fractions": (0.5, 0.5, 0)}]
    return Data.model_validate({"dataset": north, "split": "grouped", "further": further})


@pytest.fixture
def one_of_three(tmp_path: Path) -> Data:
    """One dataset with three sources, the last with only one class."""
    rows = [*scans("north"), *scans("south"), *[("covid", f"e{n}", "east") for n in range(5)]]
    return Data.model_validate({"dataset": site(tmp_path / "sites.csv", rows), "split": "grouped"})


def leaving_out(data: Data, source: str) -> Data:
    return data.model_copy(update={"leave_out": source})


def counts(divided: pd.DataFrame) -> dict[tuple[str, str], int]:
    return divided.groupby(["source", "split"]).size().to_dict()


def parts(divided: pd.DataFrame) -> dict[str, str]:
    return dict(zip(divided["path"], divided["split"], strict=True))


def test_each_dataset_is_divided_by_its_own_split(two: Data) -> None:
    divided = divided_scans(two, 0)
    assert len(divided) == 28
    assert set(counts(divided)) == {("north", p) for p in ("train", "val", "test")} | {
        ("south", "train"),
        ("south", "val"),
    }
    alone = divided_scans(two.model_copy(update={"further": ()}), 0)
    assert parts(alone).items() <= parts(divided).items()


def test_patients_of_two_datasets_are_not_one(two: Data) -> None:
    divided = divided_scans(two, 0)
    assert divided.groupby("patient")["source"].nunique().eq(1).all()
    assert divided["patient"].nunique() == 14


def test_one_dataset_is_not_changed(tmp_path: Path) -> None:
    data = Data(dataset=site(tmp_path / "a.csv", scans("")), split="grouped")
    divided = divided_scans(data, 0)
    assert set(divided["source"]) == {""}
    assert "p0" in set(divided["patient"])


def test_a_source_left_out_is_all_test_and_nothing_else_is(one_of_three: Data) -> None:
    divided = divided_scans(leaving_out(one_of_three, "east"), 0)
    assert {key for key in counts(divided) if key[1] == "test"} == {("east", "test")}
    assert counts(divided)["east", "test"] == 5
    assert "east" not in set(divided[divided["split"] != "test"]["source"])


def test_the_test_parts_of_the_others_stay_closed(one_of_three: Data) -> None:
    whole = parts(divided_scans(one_of_three, 0))
    left = divided_scans(leaving_out(one_of_three, "south"), 0)
    others = parts(left[left["source"] != "south"])
    assert others
    assert all(whole[path] == part != "test" for path, part in others.items())


def test_a_dataset_that_is_left_out_whole_need_not_be_divisible(tmp_path: Path) -> None:
    small = site(tmp_path / "small.csv", [("covid", "x", "tiny")])
    data = Data.model_validate(
        {
            "dataset": site(tmp_path / "a.csv", scans("north")),
            "split": "grouped",
            "further": [{"dataset": small, "split": "official"}],
            "leave_out": "tiny",
        }
    )
    assert counts(divided_scans(data, 0))["tiny", "test"] == 1


def test_classes_may_be_spread_over_the_datasets(tmp_path: Path) -> None:
    ill = site(tmp_path / "ill.csv", [("covid", "", "a")] * 4, "train")
    well = site(tmp_path / "well.csv", [("normal", "", "b")] * 3 + [("other", "", "b")], "val")
    further = [{"dataset": well}]
    data = Data.model_validate({"dataset": ill, "further": further, "classes": ("covid", "normal")})
    assert counts(divided_scans(data, 0)) == {("a", "train"): 4, ("b", "val"): 3}
    with pytest.raises(GroundglassError, match="labelled healthy"):
        divided_scans(data.model_copy(update={"classes": ("covid", "healthy")}), 0)


@pytest.mark.parametrize(
    ("source", "message"),
    [("west", "from the source west; there are north, south$"), ("", "there are north, south$")],
)
def test_an_unknown_source_is_named_with_those_that_there_are(two: Data, source: str, message: str) -> None:
    with pytest.raises(GroundglassError, match=message):
        divided_scans(leaving_out(two, source), 0)


def test_the_only_source_cannot_be_left_out(tmp_path: Path) -> None:
    data = Data(dataset=site(tmp_path / "a.csv", scans("")), split="grouped", leave_out="a")
    with pytest.raises(GroundglassError, match="all scans are from a, and without it none are left"):
        divided_scans(data, 0)


def test_two_datasets_of_one_source_are_refused(tmp_path: Path) -> None:
    one, other = site(tmp_path / "a.csv", scans("north")), site(tmp_path / "b.csv", scans("north"))
    data = Data.model_validate({"dataset": one, "further": [{"dataset": other}]})
    with pytest.raises(GroundglassError, match=r"b.csv: comes from north like .*a.csv"):
        sources_of(data)


def test_files_in_two_datasets_are_refused(tmp_path: Path) -> None:
    one = site(tmp_path / "a.csv", scans("north"))
    copy = tmp_path / "copy.csv"
    copy.write_text(Path(one).read_text().replace("north", "south"))
    data = Data.model_validate({"dataset": one, "further": [{"dataset": str(copy)}]})
    with pytest.raises(GroundglassError, match="16 of its 16 files are also in"):
        sources_of(data)


def test_equal_patient_names_at_the_left_out_source_are_reported(one_of_three: Data) -> None:
    with pytest.warns(LeakageWarning, match="same names in south and elsewhere"):
        divided_scans(leaving_out(one_of_three, "south"), 0)


def test_a_draw_is_of_each_dataset(two: Data) -> None:
    drawn = divided_scans(two.model_copy(update={"per_class": 6}), 0)
    assert drawn.groupby(["source", "label"]).size().tolist() == [6, 6, 6, 6]


def test_a_single_dataset_is_divided_as_ever(one_of_three: Data) -> None:
    assert parts(divided_scans(one_of_three, 3)) == parts(
        divide(_loaded(one_of_three.dataset), one_of_three, 3)
    )


def _loaded(dataset: str) -> pd.DataFrame:
    from groundglass.data.manifest import read_manifest

    return read_manifest(dataset)


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    """covid19-ct-seg of twelve patients, and radiopaedia-volumes of six of them."""
    tables = {
        name: pd.read_csv(
            site(tmp_path / f"{name}.csv", scans(name, count)), dtype=str, keep_default_na=False
        )
        for name, count in (("covid19-ct-seg", 12), ("radiopaedia-volumes", 6))
    }
    for name, table in tables.items():
        table["path"] = [f"{name}/{path}" for path in table["path"]]
    for load in ("load_dataset", "load_labelled"):
        monkeypatch.setattr(f"groundglass.recipe.divide.{load}", lambda name: tables[name])
    further = [{"dataset": "radiopaedia-volumes", "split": "grouped"}]
    return Data.model_validate(
        {"dataset": "covid19-ct-seg", "split": "grouped", "further": further, "seed": 1}
    )


def test_copies_of_a_patient_stay_in_the_part_of_the_first_dataset(copies: Data) -> None:
    divided = divided_scans(copies, 0)
    assert divided["patient"].nunique() == 12
    assert divided.groupby("patient")["split"].nunique().max() == 1
    alone = divided_scans(copies.model_copy(update={"further": ()}), 0)
    assert parts(alone).items() <= parts(divided).items()


def test_no_copy_of_a_patient_of_the_source_left_out_trains(copies: Data) -> None:
    divided = divided_scans(leaving_out(copies, "radiopaedia-volumes"), 0)
    assert set(divided[divided["split"] == "test"]["source"]) == {"radiopaedia-volumes"}
    assert divided.groupby("patient")["split"].nunique().max() == 1
    with pytest.raises(GroundglassError, match="covid19-ct-seg contains all patients of the other datasets"):
        divided_scans(leaving_out(copies, "covid19-ct-seg"), 0)
