import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from groundglass.data.splits import LeakageWarning, groups, named_groups, split
from groundglass.errors import GroundglassError

pytestmark = pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")
PARTS = {"train", "val", "test"}


def manifest(patients: dict[str, dict[str, int]], source: str = "somewhere") -> pd.DataFrame:
    """Rows from the slices of each patient and class; the files need not exist."""
    rows = [
        (f"/scans/{label}/{patient or 'x'} ({number}).png", label, patient, "", source)
        for patient, labels in patients.items()
        for label, count in labels.items()
        for number in range(1, count + 1)
    ]
    return pd.DataFrame(rows, columns=["path", "label", "patient", "split", "source"])


def numbered(count: int, source: str = "sarscov2-ct") -> pd.DataFrame:
    return manifest({"": {"covid": count, "not covid": count}}, source)


def even(patients: int = 20, slices: int = 5) -> pd.DataFrame:
    """Two classes of equally large patients."""
    return manifest(
        {
            f"{label[:1]}{number}": {label: slices}
            for label in ("covid", "not covid")
            for number in range(patients)
        }
    )


def counts(frame: pd.DataFrame) -> dict[tuple[str, str], int]:
    return dict(Counter(zip(frame["split"], frame["label"], strict=True)))


slices_of_a_patient = st.fixed_dictionaries(
    {}, optional={"covid": st.integers(1, 9), "not covid": st.integers(1, 9)}
).filter(bool)
many_patients = st.lists(slices_of_a_patient, min_size=4, max_size=30).map(
    lambda given: {f"p{number}": slices for number, slices in enumerate(given)}
)


def enough(patients: dict[str, dict[str, int]], parts: int) -> bool:
    return all(
        sum(label in slices for slices in patients.values()) >= parts for label in ("covid", "not covid")
    )


@settings(max_examples=30, deadline=None)
@given(many_patients, st.integers(0, 99), st.randoms())
def test_grouped_keeps_patients_together_and_fills_every_part(patients, seed, random) -> None:
    assume(enough(patients, 3))
    frame = manifest(patients)
    result = split(frame, "grouped", seed=seed)
    assert set(result["split"]) == PARTS
    assert result.groupby("patient")["split"].nunique().max() == 1
    assert (result.groupby("label")["split"].nunique() == 3).all()
    pd.testing.assert_frame_equal(result.drop(columns="split"), frame.drop(columns="split"))
    order = random.sample(range(len(frame)), len(frame))
    shuffled = split(frame.iloc[order], "grouped", seed=seed)
    pd.testing.assert_frame_equal(shuffled.loc[frame.index], result)


@given(
    many_patients, st.integers(2, 4), st.integers(0, 99), st.sampled_from(["grouped", "random", "official"])
)
def test_folds_cover_all_but_the_test_part_once(patients, folds, seed, scheme) -> None:
    assume(enough(patients, folds + 1))
    frame = manifest(patients)
    if scheme == "official":
        frame = split(frame, "grouped", seed=0, fractions=(0.6, 0.2, 0.2))
        rest = frame[frame["split"] != "test"]
        assume((rest.groupby("label")["patient"].nunique() >= folds).all())
    results = [split(frame, scheme, seed=seed, folds=folds, fold=fold)["split"] for fold in range(folds)]
    table = pd.concat(results, axis=1)
    tested = (table == "test").sum(axis=1)
    assert set(tested) == {0, folds}
    assert ((table == "val").sum(axis=1)[tested == 0] == 1).all()
    if scheme == "official":
        assert ((frame["split"] == "test") == (tested == folds)).all()
    if scheme != "random":
        assert all(result.groupby(frame["patient"]).nunique().max() == 1 for result in results)


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 60), st.integers(0, 99), st.sampled_from(["blocks", "random"]), st.randoms())
def test_slices_are_cut_by_class_whatever_their_order(count, seed, scheme, random) -> None:
    frame = numbered(count)
    result = split(frame, scheme, seed=seed)
    found = counts(result)
    for part, share in zip(("train", "val", "test"), (0.7, 0.15, 0.15), strict=True):
        for label in ("covid", "not covid"):
            assert max(1, share * count - 2) <= found[part, label] <= share * count + 2
    order = random.sample(range(len(frame)), len(frame))
    pd.testing.assert_frame_equal(split(frame.iloc[order], scheme, seed=seed).loc[frame.index], result)


def test_grouped_meets_the_shares_where_it_can() -> None:
    found = counts(split(even(), "grouped", seed=3))
    assert found == {
        (part, label): size
        for part, size in (("train", 70), ("val", 15), ("test", 15))
        for label in ("covid", "not covid")
    }


def test_grouped_gives_large_patients_to_every_part() -> None:
    frame = manifest(
        {f"{label}{n}": {label: 1 if n % 2 else 9} for label in ("covid", "not covid") for n in range(80)}
    )
    result = split(frame, "grouped", seed=0)
    size = frame.groupby("patient")["path"].transform("count")
    shares = (size == 9).groupby(result["split"]).mean()
    assert np.allclose(shares, 0.9, atol=0.03)


def test_another_seed_gives_another_split() -> None:
    for scheme in ("grouped", "random"):
        first, second = (split(even(), scheme, seed=seed)["split"] for seed in (0, 1))
        assert (first != second).any()


def test_blocks_are_contiguous_numbers_in_order() -> None:
    result = split(numbered(20), "blocks", seed=5)
    for label in ("covid", "not covid"):
        assert list(result["split"][result["label"] == label]) == ["train"] * 14 + ["val"] * 3 + ["test"] * 3
    second = split(numbered(20), "blocks", folds=2, fold=1)
    assert list(second["split"][second["label"] == "covid"]) == ["train"] * 8 + ["val"] * 9 + ["test"] * 3


def test_blocks_sort_numbers_as_numbers_and_refuse_to_divide_a_patient() -> None:
    frame = numbered(12)
    assert frame["path"].iloc[1] > frame["path"].iloc[9]  # as text, (2) comes after (10)
    assert split(frame, "blocks")["split"].iloc[1] == "train"
    assert split(frame, "blocks")["split"].iloc[11] == "test"
    with pytest.raises(GroundglassError, match=r"different parts: patients \(1 in all, first: p\)"):
        split(frame.assign(patient="p"), "blocks")


def test_the_subset_has_its_own_shares() -> None:
    for scheme in ("blocks", "random"):
        found = counts(split(numbered(1010, "sarscov2-ct-1010"), scheme))
        assert found == {
            ("train", "covid"): 800,
            ("train", "not covid"): 800,
            ("val", "covid"): 210,
            ("val", "not covid"): 210,
        }


def test_groups_are_patients_else_guessed_blocks_else_files() -> None:
    frame = numbered(43)
    assert list(groups(frame).iloc[[0, 20, 21, 42, 43]]) == [
        "block:covid:0000",
        "block:covid:0000",
        "block:covid:0001",
        "block:covid:0002",
        "block:not covid:0000",
    ]
    elsewhere = frame.assign(source="elsewhere")
    assert list(groups(elsewhere)) == list(frame["path"])
    assert set(groups(frame.assign(patient="p"))) == {"p"}


def test_a_named_group_takes_precedence_over_patient_and_block() -> None:
    frame = numbered(43).assign(patient=["p"] * 40 + [""] * 46)
    blank = groups(frame.assign(group=""))
    pd.testing.assert_series_equal(blank, groups(frame))
    named = frame.assign(group=[""] * 20 + ["paper"] * 30 + [""] * 36)
    expected = [*blank[:20], *["paper"] * 30, *blank[50:]]
    assert list(groups(named)) == expected
    assert list(named_groups(named)) == ["p"] * 20 + ["paper"] * 30 + [""] * 36
    assert list(named_groups(frame)) == list(frame["patient"])


def test_grouped_keeps_named_groups_of_several_patients_together() -> None:
    frame = even()
    frame["group"] = [f"paper {int(patient[1:]) // 4}" for patient in frame["patient"]]
    result = split(frame, "grouped", seed=1, fractions=(0.6, 0.2, 0.2))
    assert set(result["split"]) == PARTS
    assert result.groupby("group")["split"].nunique().max() == 1
    pd.testing.assert_frame_equal(result.drop(columns="split"), frame.drop(columns="split"))


def test_official_is_what_the_manifest_has() -> None:
    frame = even().assign(split=["train"] * 100 + ["test"] * 100)
    pd.testing.assert_frame_equal(split(frame, "official"), frame)
    with pytest.raises(GroundglassError, match="no official split: no part is given for 200 of 200"):
        split(even(), "official")


@pytest.mark.parametrize(
    ("frame", "scheme", "message"),
    [
        (even(), "random", "random split"),
        (even().assign(patient=""), "grouped", "no patient id for 200 of 200 scans"),
        (
            even().assign(split=["train", "test"] * 100),
            "official",
            "different parts: patients .40 in all, first: c0",
        ),
    ],
)
def test_leakage_is_warned_of(frame: pd.DataFrame, scheme: str, message: str) -> None:
    with pytest.warns(LeakageWarning, match=message):
        split(frame, scheme)


def test_a_clean_split_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split(even(), "grouped")
        split(numbered(100), "grouped")
        split(numbered(100), "blocks")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scheme": "byhand"}, "byhand: no such split; there are official, grouped"),
        ({"fractions": (0.5, 0.2, 0.2)}, r"fractions 0\.5, 0\.2, 0\.2: three shares"),
        ({"fractions": (0.0, 0.5, 0.5)}, "three shares"),
        ({"fractions": (1.2, -0.2, 0.0)}, "three shares"),
        ({"folds": 1}, "at least 2 folds"),
        ({"folds": 3, "fold": 3}, "fold 3 of 3"),
        ({"folds": 40}, "class covid has only 20 patients or groups for 41 parts"),
        ({"scheme": "random", "folds": 200}, "class covid has only 100 slices for 201 parts"),
    ],
)
def test_impossible_splits_are_refused(given: dict, message: str) -> None:
    with pytest.raises(GroundglassError, match=message):
        split(even(), **{"scheme": "grouped", **given})


def test_a_share_of_zero_leaves_a_part_out() -> None:
    assert set(split(even(), "grouped", fractions=(0.8, 0.2, 0.0))["split"]) == {"train", "val"}
