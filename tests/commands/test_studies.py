from pathlib import Path

import pytest

from groundglass.errors import GroundglassError
from groundglass.scan.studies import KEY_FILE, find_studies, key_of
from groundglass.scan.volume import Listing, Series, Volume

KEY = b"key"


def load() -> Volume:
    raise AssertionError("a listing is not loaded")


def series(name: str = "a", **facts: object) -> Series:
    content: dict[str, object] = {
        "kind": "dicom",
        "slices": 100,
        "rows": 512,
        "columns": 512,
        "open": load,
        "spacing": (2.0, 0.7, 0.7),
        "patient": "Q-17",
        "study": "1.2.3",
        "series_uid": f"1.2.3.{name}",
        "number": name,
    }
    content["source"] = Path("scans") / name
    return Series(**(content | facts))  # type: ignore[arg-type]


def chosen(*several: Series) -> str:
    (study,) = find_studies(Listing(several), KEY)
    assert study.series is not None
    return study.series.number


def test_series_of_one_study_make_one_study() -> None:
    studies = find_studies(Listing((series("1"), series("2"), series("3", study="9.9"))), KEY)
    assert [len(study.others) for study in studies] == [1, 0]
    assert studies[0].patient == studies[1].patient != ""


def test_names_reveal_nothing_about_the_patient_and_depend_on_the_key() -> None:
    (study,), (other,) = (find_studies(Listing((series(),)), key) for key in (KEY, b"other"))
    for text in (study.name, study.patient):
        assert "Q-17" not in text
        assert "1.2.3" not in text
    assert study.name != other.name
    assert study.patient != other.patient
    assert study.name == find_studies(Listing((series(),)), KEY)[0].name


def test_one_study_uid_of_two_patients_is_two_studies() -> None:
    studies = find_studies(Listing((series("1"), series("2", patient="R-18"))), KEY)
    assert len({study.name for study in studies}) == 2


def test_the_finer_of_two_with_equal_coverage_is_used() -> None:
    assert (
        chosen(series("thick", slices=50, spacing=(4, 1, 1)), series("thin", slices=200, spacing=(1, 1, 1)))
        == "thin"
    )


def test_the_one_that_covers_more_is_used() -> None:
    assert chosen(series("part", slices=200, spacing=(0.5, 1, 1)), series("whole", slices=120)) == "whole"


def test_thick_slices_only_where_there_are_no_others() -> None:
    thick = series("thick", slices=60, spacing=(8, 1, 1))
    assert chosen(thick, series("thin", slices=120)) == "thin"
    assert chosen(thick) == "thick"


def test_a_fine_zoom_does_not_replace_the_chest() -> None:
    whole = series("whole", slices=45, spacing=(7, 1, 1))
    assert chosen(whole, series("zoom", slices=20, spacing=(1, 1, 1))) == "whole"
    assert (
        chosen(series("whole", slices=60, spacing=(5.1, 1, 1)), series("few", slices=3, spacing=(5, 1, 1)))
        == "whole"
    )


def test_abdomen_wins_nothing() -> None:
    chest = series("chest", slices=250, spacing=(1.25, 1, 1))
    assert chosen(chest, series("long", slices=130, spacing=(5, 1, 1))) == "chest"


def test_unusable_series_are_never_used() -> None:
    scout = series("scout", slices=900, problem="is a localizer", remedy="use the axial series")
    assert chosen(scout, series("ct")) == "ct"
    (study,) = find_studies(Listing((scout,)), KEY)
    assert study.series is None
    assert (study.error().problem, study.error().remedy) == ("is a localizer", "use the axial series")


def test_nifti_files_are_studies_of_their_own() -> None:
    files = [
        series("n", kind="nifti", source=Path(folder) / "ct.nii.gz", patient="", study="") for folder in "ab"
    ]
    names = [study.name for study in find_studies(Listing(tuple(files)), KEY)]
    assert len(set(names)) == 2
    assert all(name.startswith("ct-") for name in names)
    # The name depends on the file's path, not on other files.
    assert [study.name for study in find_studies(Listing((files[1],)), KEY)] == names[1:]


@pytest.mark.parametrize(
    "name", ["...nii.gz", "..nii", "patients.csv.nii.gz", "a b/ö.nii", "x" * 300 + ".nii"]
)
def test_a_files_name_leads_nowhere_else(name: str) -> None:
    one = series("n", kind="nifti", source=Path("in") / name, patient="", study="")
    (study,) = find_studies(Listing((one,)), KEY)
    assert Path(study.name).name == study.name
    assert not study.name.startswith(".")
    assert len(study.name) < 60


def test_a_folder_keeps_its_key(tmp_path: Path) -> None:
    key = key_of(tmp_path)
    assert key == key_of(tmp_path)
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o077 == 0
    assert key_of(None) != key_of(None)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"short"])
def test_a_damaged_key_is_reported(content: bytes, tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(content)
    with pytest.raises(GroundglassError, match="is damaged"):
        key_of(tmp_path)


def test_a_key_that_is_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).mkdir()
    with pytest.raises(GroundglassError, match="cannot be read or written"):
        key_of(tmp_path)


@pytest.mark.parametrize("spacing", [None, (2.0, 0.7, 0.7)])
def test_unknown_spacing_does_not_fail(spacing: tuple[float, float, float] | None) -> None:
    assert chosen(series("x", spacing=spacing)) == "x"
