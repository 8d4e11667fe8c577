import pytest

from groundglass.data.datasets import hash_list
from groundglass.data.layouts import LAYOUTS
from groundglass.data.registry import DATASETS, find
from groundglass.errors import GroundglassError


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_every_row_is_complete_and_consistent(dataset) -> None:
    assert DATASETS[dataset.name] is dataset
    assert dataset.layout in LAYOUTS
    assert sum(dataset.fractions) == pytest.approx(1)
    assert dataset.address.startswith("https://")
    assert all("{folder}" not in step.format(folder="/somewhere") for step in dataset.steps)
    assert any("{folder}" in step for step in dataset.steps)
    for group in dataset.numbered:
        assert len(group.stems()) == dataset.classes[group.label]


def test_the_subset_is_the_lowest_1010_numbers_of_each_class() -> None:
    covid, other = DATASETS["sarscov2-ct-1010"].numbered
    assert (covid.stems()[0], covid.stems()[-1]) == ("Covid (1)", "Covid (1010)")
    assert (other.stems()[0], other.stems()[-1]) == ("Non-Covid (1)", "Non-Covid (1011)")
    assert "Non-Covid (151)" not in other.stems()


def test_covid_ct_has_a_hash_for_each_of_its_746_pictures() -> None:
    hashes = hash_list(DATASETS["covid-ct"])
    assert len(hashes) == len(set(hashes.values())) == 746
    folders = [path.rsplit("/", 1)[0] for path in hashes]
    assert folders.count("Images-processed/CT_COVID") == 349
    assert folders.count("Images-processed/CT_NonCOVID") == 397
    assert all(len(digest) == 64 for digest in hashes.values())


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(GroundglassError, match=r"did you mean covid-ct\?.*covid19-ct-seg"):
        find("covid_ct")
