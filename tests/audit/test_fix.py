import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from series import material_of

from groundglass.audit.fix import Change, changes_table, fix
from groundglass.audit.hidden_groups import HiddenGroups, origins
from groundglass.audit.near_duplicates import DuplicatePair
from groundglass.data.datasets import load_dataset
from groundglass.data.splits import groups
from groundglass.errors import GroundglassError, ScanError


def made(names="abcdef", twins=(), guessed=None, **columns):
    """Files ``a.png``, ...; twins as ``(first, second, how)``; the guessed group of each slice."""
    paths = [f"/made/{name}.png" for name in names]
    material = material_of(np.zeros((len(paths), 8, 8), dtype=np.uint8), path=paths, **columns)
    material.__dict__["duplicates"] = [
        DuplicatePair(first, second, 1.0, f"same {how}") for first, second, how in twins
    ]
    alone = np.arange(len(paths)) if guessed is None else np.array(guessed)
    none = np.empty((0, 2), dtype=np.intp)
    material.__dict__["hidden"] = HiddenGroups(alone, np.full(len(paths), np.inf), none, none)
    return material


def names(manifest):
    return [Path(path).stem for path in manifest["path"]]


def described(changes):
    return [(Path(one.path).stem, one.what, one.code, one.before, one.after) for one in changes]


def test_what_is_in_order_is_left_as_it_is():
    material = made(patient=["p", "p", "q", "q", "", ""], split=["train"] * 2 + ["test"] * 4)
    fixed, changes = fix(material)
    pd.testing.assert_frame_equal(fixed, material.manifest)
    assert changes == []
    assert list(changes_table(changes)) == ["path", "what", "code", "why", "before", "after"]


def test_unreadable_files_are_listed():
    material = made()
    material.unreadable = (ScanError("/made/z.png", "is empty", "download it again"),)
    assert fix(material)[1] == [
        Change("/made/z.png", "removed", "GG119", "It cannot be read: is empty.", "", "")
    ]


@pytest.mark.parametrize("how", ["file", "picture"])
def test_opposite_labels_are_both_removed(how):
    labels = ["covid"] * 3 + ["not covid"] * 3
    fixed, changes = fix(made(label=labels, twins=[(1, 4, how)]))
    assert names(fixed) == ["a", "c", "d", "f"]
    assert described(changes) == [
        ("b", "removed", "GG103", "covid", ""),
        ("e", "removed", "GG103", "not covid", ""),
    ]
    assert changes[0].why == (
        "It shows the same picture as e.png, which is labelled not covid; it is unknown which label is right."
    )


def test_equal_files_of_a_doubtful_one_are_doubtful_too():
    labels = ["covid"] * 3 + ["not covid"] * 3
    fixed, changes = fix(made(label=labels, twins=[(0, 1, "file"), (0, 3, "file"), (3, 5, "file")]))
    assert names(fixed) == ["c", "e"]
    others = {Path(one.path).stem: one.why.split()[6] for one in changes}
    assert {one: labels["abcdef".index(other[0])] for one, other in others.items()} == {
        "a": "not covid",
        "b": "not covid",
        "d": "covid",
        "f": "covid",
    }


def test_a_copy_of_a_slice_with_an_opposite_label_is_also_removed():
    labels = ["covid"] * 3 + ["not covid"] * 3
    fixed, changes = fix(made(label=labels, twins=[(0, 1, "file"), (1, 5, "picture")]))
    assert names(fixed) == ["c", "d", "e"]
    assert "as f.png, which is labelled not covid" in changes[0].why


@pytest.mark.parametrize(
    ("split", "kept", "codes"),
    [
        (["train", "val", "test"], "c", ["GG106", "GG106"]),
        (["val", "test", "test"], "b", ["GG106", "GG101"]),
        (["train", "val", "val"], "b", ["GG106", "GG101"]),
        (["train", "train", "train"], "a", ["GG101", "GG101"]),
        (["", "", "train"], "a", ["GG101", "GG101"]),
    ],
)
def test_of_equal_files_the_most_held_out_is_kept(split, kept, codes):
    parts = [*split, "train", "val", "test"]
    fixed, changes = fix(made(split=parts, twins=[(0, 1, "file"), (0, 2, "file")]))
    assert names(fixed) == [kept, "d", "e", "f"]
    assert [one.code for one in changes] == codes
    place = "abc".index(kept)
    where = f" of the {split[place]} set" if codes[0] == "GG106" else ""
    assert changes[0].why == f"It is the same file as {kept}.png{where}, which is kept."
    assert fixed["split"][0] == split[place]


def test_files_of_one_name_are_distinguished_by_their_folders():
    _, changes = fix(made(["one/a", "two/a", "b"], twins=[(0, 1, "file")]))
    assert changes[0].why == "It is the same file as one/a.png, which is kept."


def test_nearly_equal_pictures_of_one_patient_stay_as_they_are():
    material = made(patient=["p"] * 3 + ["q"] * 3, twins=[(0, 1, "picture"), (1, 2, "picture")])
    fixed, changes = fix(material)
    assert changes == []
    assert "group" not in fixed


def test_nearly_equal_pictures_of_two_patients_make_one_group():
    material = made(patient=["p", "p", "q", "", "", ""], twins=[(1, 2, "picture"), (2, 3, "picture")])
    fixed, changes = fix(material)
    assert fixed["group"].tolist() == ["group-0001"] * 4 + ["", ""]
    assert described(changes) == [
        ("a", "regrouped", "GG102", "p", "group-0001"),
        ("b", "regrouped", "GG102", "p", "group-0001"),
        ("c", "regrouped", "GG102", "q", "group-0001"),
        ("d", "regrouped", "GG102", "", "group-0001"),
    ]
    assert [one.why for one in changes] == [
        "It belongs to p with b.png, which shows the same picture as c.png.",
        "It shows the same picture as c.png.",
        "It shows the same picture as b.png.",
        "It shows the same picture as c.png.",
    ]


def test_a_removed_copy_still_gives_its_patient():
    fixed, changes = fix(made(patient=["", "p", "p", "q", "", ""], twins=[(0, 1, "file")]))
    assert names(fixed) == ["a", "c", "d", "e", "f"]
    assert fixed["group"].tolist() == ["group-0001", "group-0001", "", "", ""]
    assert changes[-1].why == "It belongs to p with b.png, which is the same file as a.png."


def test_slices_of_one_patient_in_two_groups_become_one():
    fixed, changes = fix(made(patient=["p", "p", "p", "q", "q", "q"], group=["one", "two", "", "", "", ""]))
    assert groups(fixed).tolist() == ["p"] * 3 + ["q"] * 3
    assert described(changes) == [
        ("a", "regrouped", "GG104", "one", "p"),
        ("b", "regrouped", "GG104", "two", "p"),
    ]
    assert changes[0].why == "It belongs to the same patient, p, as b.png."


def test_a_named_group_keeps_its_patients_together():
    fixed, changes = fix(made(patient=["p", "q", "", "r", "", "p"], group=["one", "one", "one", "", "", ""]))
    assert groups(fixed).tolist()[:3] == ["group-0001"] * 3
    assert groups(fixed)[5] == "group-0001"
    assert described(changes)[-1] == ("f", "regrouped", "GG104", "p", "group-0001")


PAPERS = ["1-20200301-p1-1", "x", "1-20200301-p1-2", "y", "1-20200302-p1-1", "z", "1-20200302-p2-1"]


def test_a_paper_gives_its_name_to_its_group():
    others = [f"other {letter}" for letter in "abcdefgh"]
    fixed, changes = fix(made(PAPERS + others))
    assert fixed["group"].tolist()[:7] == ["1-20200301", "", "1-20200301", "", "1-20200302", "", "1-20200302"]
    assert {one.code for one in changes} == {"GG105"}
    assert changes[0].why == (
        "It is, according to its file name, from the same paper or series, 1-20200301, as 1-20200301-p1-2.png."
    )


def test_a_paper_joined_with_an_equal_picture_does_not():
    others = [f"other {letter}" for letter in "abcdefgh"]
    fixed, _ = fix(made(PAPERS + others, twins=[(1, 2, "picture")]))
    assert fixed["group"].tolist()[:5] == ["group-0001"] * 3 + ["", "1-20200302"]


def test_a_removed_copy_still_gives_its_paper():
    others = [f"other {letter}" for letter in "abcdefgh"]
    split = ["train", "test", *["train"] * 5, *["test"] * 8]
    fixed, _ = fix(made(PAPERS + others, split=split, twins=[(0, 1, "file")]))
    assert names(fixed)[:2] == ["x", "1-20200301-p1-2"]
    assert fixed["group"].tolist()[:5] == ["group-0001", "group-0001", "", "1-20200302", ""]


def test_a_paper_in_two_sources_gives_its_name_once():
    stems = [f"{folder}/{stem}" for folder in "ab" for stem in [*PAPERS, "v", "w", "xx", "yy"]]
    fixed, _ = fix(made(stems, source=["here"] * 11 + ["there"] * 11))
    papers = {"1-20200301", "1-20200302", "group-0001", "group-0002"}
    assert {
        name: int(count) for name, count in fixed["group"].value_counts().items() if name
    } == dict.fromkeys(papers, 2)


def test_one_patient_in_two_sources_is_two_patients():
    split, source = ["train"] * 3 + ["test"] * 3, ["here"] * 3 + ["there"] * 3
    fixed, changes = fix(made(patient="1", split=split, source=source))
    assert changes == []
    assert fixed["split"].tolist() == split


def test_a_name_that_others_have_is_not_given():
    material = made(
        patient=["1", "1", "2", "1", "1", "2"],
        source=["here"] * 3 + ["there"] * 3,
        group=["x", "y", "", "", "", "group-0001"],
    )
    fixed, _ = fix(material)
    assert fixed["group"].tolist() == ["group-0002", "group-0002", "", "", "", "group-0001"]


def test_guessed_groups_are_called_a_guess():
    fixed, changes = fix(made(guessed=[0, 0, 1, 2, 2, 2]))
    assert fixed["group"].tolist() == ["guess-0001"] * 2 + [""] + ["guess-0002"] * 3
    assert {one.code for one in changes} == {"GG107"}
    assert changes[0].why == "It probably (a guess) belongs to the same series as b.png."


def test_a_guess_does_not_affect_known_patients():
    fixed, changes = fix(made(patient=["p", "p", "q", "q", "", ""], guessed=[0] * 6))
    assert fixed["group"].tolist() == [""] * 4 + ["guess-0001"] * 2
    assert len(changes) == 2


def test_a_guess_makes_a_group_with_a_picture_a_guess():
    fixed, _ = fix(
        made(patient=["p", "p", "", "", "", ""], twins=[(1, 2, "picture")], guessed=[0, 1, 2, 2, 3, 4])
    )
    assert fixed["group"].tolist() == ["guess-0001"] * 4 + ["", ""]


def test_guesses_replace_blocks_of_numbers():
    numbered = [f"Covid ({number})" for number in range(1, 25)]
    guessed = [0] * 5 + list(range(1, 13)) + [20, 21] + [22] * 5
    fixed, changes = fix(made(numbered, source="sarscov2-ct", guessed=guessed, twins=[(18, 19, "picture")]))
    assert fixed["group"].tolist() == ["guess-0001"] * 5 + [""] * 13 + ["guess-0002"] * 6
    guess = "It probably (a guess) belongs to the same series as"
    assert [one.why for one in changes] == [
        f"{guess} Covid (2).png.",
        *[f"{guess} Covid (1).png."] * 4,
        "It shows the same picture as Covid (20).png.",
        *[f"{guess} Covid (22).png."] * 2,
        *[f"{guess} Covid (20).png."] * 3,
    ]


@pytest.mark.parametrize(
    ("split", "target"),
    [
        (["train", "test", "test"], "test"),
        (["test", "val", ""], "val"),
        (["test", "train", "val"], "train"),
        (["", "", "val"], "val"),
    ],
)
def test_a_divided_group_moves_to_the_part_with_most_of_it(split, target):
    parts = [*split, "train", "val", "test"]
    fixed, changes = fix(made(patient=["p"] * 3 + ["q", "r", "s"], split=parts))
    assert fixed["split"].tolist() == [part and target for part in split] + parts[3:]
    moved = [(name, part) for name, part in zip("abc", split, strict=True) if part not in ("", target)]
    assert described(changes) == [(name, "moved", "GG104", part, target) for name, part in moved]


def test_the_reason_of_a_move_is_the_bond_with_its_new_part():
    fixed, changes = fix(
        made(
            patient=["p", "p", "p", "q", "q", ""],
            split=["train", "train", "train", "test", "test", "test"],
            twins=[(2, 3, "picture")],
        )
    )
    assert fixed["split"].tolist() == ["train"] * 5 + ["test"]
    assert described(changes)[-2:] == [
        ("d", "moved", "GG106", "test", "train"),
        ("e", "moved", "GG104", "test", "train"),
    ]
    assert changes[2].code == "GG106"
    assert [one.why for one in changes[-2:]] == [
        "It shows the same picture as c.png in the train set, to which their group moves.",
        "It belongs to group-0001 with a.png in the train set, to which their group moves.",
    ]


def test_guessed_groups_move_only_without_patients():
    split = ["train", "train", "test", "train", "train", "test"]
    fixed, _ = fix(made(patient=["p", "p", "q", "", "", ""], split=split, guessed=[0, 0, 0, 1, 1, 1]))
    assert fixed["split"].tolist() == ["train", "train", "test", "train", "train", "train"]


def test_a_class_that_would_be_empty_is_an_error():
    material = made("abc", label=["covid", "not covid", "not covid"], twins=[(0, 1, "file")])
    with pytest.raises(GroundglassError, match=r"made: no slice of class covid would be left.*GG103"):
        fix(material)


def test_a_part_that_would_be_empty_is_an_error():
    with pytest.raises(GroundglassError, match=r"made: no slice would be left in the val set.*split again"):
        fix(made("abc", patient="p", split=["train", "train", "val"]))


def _after(material, fixed):
    """The material of a fixed manifest, with those of the duplicates that are left."""
    place = {path: number for number, path in enumerate(fixed["path"])}
    at = [list(material.paths).index(path) for path in fixed["path"]]
    after = material_of(material.pictures.grey[at], **{column: fixed[column].to_numpy() for column in fixed})
    ends = [
        (material.paths[pair.first], material.paths[pair.second], pair.how) for pair in material.duplicates
    ]
    after.duplicates = [
        DuplicatePair(place[one], place[other], 1.0, how)
        for one, other, how in ends
        if {one, other} <= {*place}
    ]
    return after


def _components(count, sets):
    """The sets, joined if they share a member, by the simplest method."""
    joined = [{place} for place in range(count)]
    for one in sets:
        touched = [other for other in joined if other & set(one)]
        joined = [other for other in joined if not other & set(one)] + [set().union(*touched)]
    return {frozenset(one) for one in joined}


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_the_connected_components_of_what_belongs_together(seed):
    rng = np.random.default_rng(seed)
    count = 60
    stems = [
        f"paper-20200{rng.integers(100, 150)}-p1-{number}" if rng.random() < 0.5 else f"file-{number:03d}x"
        for number in range(count)
    ]
    patients = [f"p{rng.integers(40)}" if rng.random() < 0.6 else "" for _ in range(count)]
    guessed = rng.integers(50, size=count)
    pairs = {tuple(sorted(map(int, rng.choice(count, 2, replace=False)))) for _ in range(8)}
    material = made(
        stems,
        twins=[(*pair, "picture") for pair in sorted(pairs)],
        guessed=guessed,
        patient=patients,
        split=rng.choice(["train", "val", "test"], count, p=[0.6, 0.2, 0.2]),
        note=[f"note {number}" for number in range(count)],
    )
    fixed, changes = fix(material)
    frame = material.manifest.assign(origin=origins(material.manifest), guess=guessed)
    sets = [list(pair) for pair in pairs]
    for column, rows in (("patient", frame), ("origin", frame), ("guess", frame[frame["patient"] == ""])):
        sets += [list(at.index) for name, at in rows.groupby(column) if name != ""]
    expected = _components(count, sets)
    assert {frozenset(at) for at in fixed.groupby(groups(fixed)).groups.values()} == expected
    for at in map(list, expected):
        before = material.manifest["split"][at].value_counts()
        after = fixed["split"][at]
        assert len(set(after)) == 1
        assert before[after.iloc[0]] == before.max()
    assert fixed["note"].tolist() == material.manifest["note"].tolist()
    moved = {one.path for one in changes if one.what == "moved"}
    assert moved == set(fixed["path"][fixed["split"] != material.manifest["split"]])
    assert fix(_after(material, fixed))[1] == []


def test_covid_ct_loses_two_pairs_and_moves_three_papers():
    if not Path(os.environ.get("GROUNDGLASS_MIRROR", ""), "covid-ct", "Data-split").is_dir():
        pytest.skip("GROUNDGLASS_MIRROR names no folder that holds covid-ct")
    manifest = load_dataset("covid-ct")
    stems = [Path(path).stem for path in manifest["path"]]
    columns = {name: manifest[name].to_numpy() for name in manifest if name != "path"}
    pairs = [("kjr-21-e24-p5-29", "71%0"), ("kjr-21-e24-p5-31", "71%1")]
    twins = [(*sorted((stems.index(one), stems.index(other))), "picture") for one, other in pairs]
    fixed, changes = fix(made(stems, twins=twins, **columns))
    assert len(fixed) == 742
    moved = {one.path.split("/")[-1].split("-p")[0] for one in changes if one.what == "moved"}
    assert moved == {"2020.03.12.20034686", "2020.03.13.20035212", "2020.03.22.20040782"}
