import pandas as pd
import pytest

from groundglass.audit.hidden_groups import origin_of, origins


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("2020.02.10.20021584-p6-52%0.png", "2020.02.10.20021584"),
        ("2020.03.12.20034686-p17-91-1.png", "2020.03.12.20034686"),
        ("2020.02.26.20026989-p34-114_1%0.png", "2020.02.26.20026989"),
        ("kjr-21-e24-p5-29.png", "kjr-21-e24"),
        ("A-new-virus_International-Jour-p3-89%0.png", "A-new-virus_International-Jour"),
        ("PIIS0140673620301549_0%0.png", "PIIS0140673620301549"),
        ("PIIS0140673620301549_1.png", "PIIS0140673620301549"),
        ("71%0.jpg", "71"),
        ("phantom-0003_012.png", "phantom-0003"),
        ("IM-0001-0023.png", "IM-0001"),
        ("patient12_slice5.png", "patient12"),
        ("patient 12 (5).png", "patient 12"),
        ("covid-p12-3.png", "covid-p12"),
        ("1.2.840.113619.2.55-12.png", "1.2.840.113619.2.55"),
        ("Covid (12).png", ""),
        ("slice_7.png", ""),
        ("patient12.png", ""),
        ("672.png", ""),
        ("scan.png", ""),
    ],
)
def test_the_name_gives_a_paper_or_series(name, origin):
    assert origin_of(f"/data 1/case-3_2/{name}") == origin


def manifest_of(names, labels):
    paths = [f"/{label}/{name}.png" for name, label in zip(names, labels, strict=True)]
    return pd.DataFrame({"path": paths, "label": labels, "source": "made"})


def test_origins_of_one_file_or_of_much_of_a_class_do_not_count():
    names = [f"COVID-19_{number}" for number in range(15)]
    names += ["paper-202001-p3-1", "paper-202001-p4-2", "paper-202002-p1-1"]
    names += [f"other ({number})" for number in range(4)]
    found = origins(manifest_of(names, ["covid"] * 18 + ["not covid"] * 4))
    assert found[found != ""].to_dict() == {15: "paper-202001", 16: "paper-202001"}


def test_short_numbers_count_within_a_class_and_long_ones_everywhere():
    names = ["7%0", "7%1", "paper-202001-p1-1", *map(str, range(100, 120))] * 2
    found = origins(manifest_of(names, ["covid"] * 23 + ["not covid"] * 23))
    assert sorted(found[found != ""]) == ["7 (covid)"] * 2 + ["7 (not covid)"] * 2 + ["paper-202001"] * 2


def test_a_series_that_is_much_of_its_source_does_not_count_although_it_is_little_of_all():
    manifest = manifest_of(
        [f"scan-202001-{number}" for number in range(4)] + list("abcdefgh") * 5, ["covid"] * 44
    )
    assert (origins(manifest) != "").sum() == 4
    manifest.loc[:7, "source"] = "small"
    assert (origins(manifest) == "").all()
