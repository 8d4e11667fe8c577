import os
from pathlib import Path

import numpy as np
import pytest
from series import material_of

from groundglass.audit.check import NotApplicable
from groundglass.audit.data.groups import OriginInTwoParts
from groundglass.data.datasets import load_dataset


def made(names, split, **columns):
    paths = [f"/made/{name}.png" for name in names]
    return material_of(np.zeros((len(names), 8, 8), dtype=np.uint8), path=paths, split=split, **columns)


PAPERS = [f"paper-20200{paper}-p1-{picture}" for paper in range(6) for picture in range(3)]


def test_a_divided_paper_is_a_warning_with_its_files():
    split = ["train"] * 11 + ["test"] * 7
    result = OriginInTwoParts().run(made(PAPERS, split))
    assert result.severity == "warning"
    assert result.figure.value == pytest.approx(1 / 7)
    assert result.rows == (("paper-202003", "2", "0", "1"),)
    assert [Path(file).name for file in result.files] == [
        f"paper-202003-p1-{picture}.png" for picture in range(3)
    ]
    assert "1 of them (paper-202003) is in two parts of the split, with 3 slices" in result.message


def test_whole_papers_pass():
    result = OriginInTwoParts().run(made(PAPERS, ["train"] * 9 + ["test"] * 9))
    assert result.severity is None
    assert result.message.endswith("None of them is in two parts of the split.")
    assert "18 of 18 file names give a paper or series, 6 in all." in result.message


def test_more_papers_are_counted_than_named():
    result = OriginInTwoParts().run(made(PAPERS, ["train", "val", "train"] * 6))
    assert result.figure.value == 1
    assert "6 of them (paper-202000, paper-202001, paper-202002, ...) are in two parts" in result.message
    assert result.message.count("paper-2") == 3
    assert "of the val slices" in result.message


def test_uninformative_names_do_not_apply():
    with pytest.raises(NotApplicable, match="give no paper or series"):
        OriginInTwoParts().run(made([f"Covid ({number})" for number in range(8)], ["train", "test"] * 4))


def test_covid_ct_has_three_papers_in_two_parts():
    if not Path(os.environ.get("GROUNDGLASS_MIRROR", ""), "covid-ct", "Data-split").is_dir():
        pytest.skip("GROUNDGLASS_MIRROR names no folder that holds covid-ct")
    manifest = load_dataset("covid-ct")
    columns = {name: manifest[name].to_numpy() for name in manifest}
    result = OriginInTwoParts().run(material_of(np.zeros((len(manifest), 8, 8), dtype=np.uint8), **columns))
    papers = {"2020.03.12.20034686", "2020.03.13.20035212", "2020.03.22.20040782"}
    assert {row[0] for row in result.rows} == papers
    assert result.figure.value == pytest.approx(7 / 203)
