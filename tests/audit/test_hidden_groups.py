from pathlib import Path

import numpy as np
import pandas as pd
from series import material_of, pictures_of
from sklearn.metrics import adjusted_rand_score

from groundglass.audit.hidden_groups import HiddenGroups
from groundglass.audit.hidden_groups import hidden_groups as from_duplicates
from groundglass.audit.material import small_picture
from groundglass.audit.near_duplicates import similar_pictures
from groundglass.phantom import write_phantom_set
from groundglass.scan.read import read_scan

SLICES = [5, 1, 8, 3, 12, 1, 7, 6, 4, 9]
PATIENTS = np.repeat(np.arange(len(SLICES)), SLICES)


def hidden_groups(manifest: pd.DataFrame, grey: np.ndarray) -> HiddenGroups:
    return from_duplicates(manifest, grey, similar_pictures(grey))


def manifest_of(count, **columns):
    return material_of(np.zeros((count, 1, 1), dtype=np.uint8), **columns).manifest


def test_runs_of_similar_neighbours_are_groups():
    found = hidden_groups(manifest_of(len(PATIENTS)), pictures_of(SLICES))
    np.testing.assert_array_equal(found.groups, PATIENTS)
    np.testing.assert_array_equal(found.sizes, SLICES)
    assert len(np.unique(found.threshold)) == 1
    assert 0 < found.threshold[0] < 0.8
    assert (PATIENTS[found.neighbours[:, 0]] == PATIENTS[found.neighbours[:, 1]]).all()


def test_files_count_in_the_order_of_their_numbers_not_of_the_rows():
    manifest, grey = manifest_of(len(PATIENTS)), pictures_of(SLICES)
    order = np.random.default_rng(1).permutation(len(grey))
    found = hidden_groups(manifest.iloc[order], grey[order])
    assert adjusted_rand_score(PATIENTS[order], found.groups) == 1


def test_a_run_ends_with_its_folder_and_class():
    grey = pictures_of([10] * 8)
    half = np.tile(np.arange(10) < 5, 8)
    paths = [f"/made/{'a' if first else 'b'}/{number}.png" for number, first in enumerate(half)]
    by_folder = from_duplicates(manifest_of(80, path=paths), grey, [])
    by_class = from_duplicates(manifest_of(80, label=np.where(half, "covid", "not covid")), grey, [])
    for found in (by_folder, by_class):
        assert len(found.sizes) == 16
        assert (found.sizes == 5).all()


def test_one_odd_slice_does_not_end_a_run_but_two_do():
    odd = pictures_of([1, 1], seed=9)
    grey = pictures_of([10] * 6)
    grey[4] = odd[0]
    assert (from_duplicates(manifest_of(60), grey, []).groups == np.repeat(np.arange(6), 10)).all()
    grey[5] = odd[1]
    assert from_duplicates(manifest_of(60), grey, []).sizes.tolist() == [4, 1, 1, 4, 10, 10, 10, 10, 10]


def test_an_uninformative_order_gives_no_groups():
    order = np.random.default_rng(0).permutation(60)
    found = hidden_groups(manifest_of(60), pictures_of([3] * 20)[order])
    assert (found.sizes == 1).all()
    assert np.isinf(found.threshold).all()


def test_too_few_slices_give_no_groups():
    assert (from_duplicates(manifest_of(24), pictures_of([8] * 3), []).sizes == 1).all()
    assert hidden_groups(manifest_of(1), pictures_of([1])).groups.tolist() == [0]


def test_each_source_has_its_own_threshold():
    foggy = (pictures_of([6] * 6, seed=5) // 4 + 0.75 * pictures_of([1], seed=6)).astype(np.uint8)
    grey = np.concatenate([pictures_of([6] * 6), foggy])
    found = hidden_groups(manifest_of(72, source=["clear"] * 36 + ["foggy"] * 36), grey)
    assert found.threshold[0] < 0.6 < 0.9 < found.threshold[-1]
    assert (found.sizes == 6).all()


def test_a_patient_who_is_shown_again_later_is_one_group():
    grey = pictures_of([6] * 10)
    grey[57:60] = grey[3:6]
    found = hidden_groups(manifest_of(60), grey)
    assert found.sizes.tolist() == [9, 6, 6, 6, 6, 6, 6, 6, 6, 3]
    assert found.groups[2] == found.groups[58]
    assert [5, 59] in found.repeats.tolist()


def test_a_patient_who_only_looks_like_another_is_not_joined():
    grey = pictures_of([6] * 10)
    noise = np.random.default_rng(2).normal(0, 60, (6, *grey.shape[1:]))
    grey[30:36] = np.clip(grey[:6] + noise, 0, 255)
    assert len(hidden_groups(manifest_of(60), grey).sizes) == 10


def test_phantoms_are_distinguished(tmp_path: Path):
    rows = write_phantom_set(tmp_path, count=4, disease="none", shape=(24, 64, 64))
    manifest = pd.DataFrame(rows)
    grey = np.stack(
        [small_picture((read_scan(path).pixels * 255).astype(np.uint8)) for path in manifest["path"]]
    )
    patients = manifest["patient"].to_numpy()
    found = hidden_groups(manifest, grey)
    assert np.isfinite(found.threshold).all()
    assert adjusted_rand_score(patients, found.groups) > 0.9
    for pairs in (found.neighbours, found.repeats):
        assert (patients[pairs[:, 0]] == patients[pairs[:, 1]]).all()
