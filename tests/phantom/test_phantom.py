import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from groundglass.errors import GroundglassError
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.phantom import (
    Lesion,
    Phantom,
    make_phantom,
    random_lesions,
    write_phantom,
    write_phantom_set,
)
from groundglass.phantom.anatomy import Build, label_lobes
from groundglass.phantom.geometry import AnatomyFrame
from groundglass.phantom.lesions import Kind
from groundglass.phantom.tissue import connect
from groundglass.scan.image import read_image

SMALL = (16, 128, 128)
RIGHT, LEFT = 1, 2
KINDS = ("ground glass", "consolidation", "lobar consolidation", "nodule", "emphysema")
EACH_KIND = (
    Lesion("lobar consolidation", 120, side="right"),
    Lesion("emphysema", 60, side="left"),
    Lesion("ground glass", 50, side="left"),
    Lesion("consolidation", 30, side="right"),
    Lesion("nodule", 20, side="left"),
)


@pytest.fixture(scope="module")
def healthy() -> Phantom:
    return make_phantom(1, shape=SMALL)


@pytest.fixture(scope="module")
def ill() -> Phantom:
    """One lesion of each kind, at full resolution."""
    return make_phantom(1, lesions=EACH_KIND)


def core(mask: np.ndarray) -> np.ndarray:
    """The mask without the pixels at its edge within each slice, which blur and soft edges touch."""
    return ndimage.binary_erosion(mask, np.ones((1, 3, 3)), iterations=2)


def test_the_same_seed_gives_the_same_bytes(ill: Phantom) -> None:
    again = make_phantom(1, lesions=EACH_KIND)
    assert again.scan.pixels.tobytes() == ill.scan.pixels.tobytes()
    assert again.lungs.tobytes() == ill.lungs.tobytes()
    assert again.lesions.tobytes() == ill.lesions.tobytes()
    assert again.lesion_records == ill.lesion_records
    assert random_lesions(7, "covid") == random_lesions(7, "covid")


def test_seeds_differ_in_anatomy_and_not_only_in_noise() -> None:
    first, second = (make_phantom(seed, shape=SMALL, noise_hu=0) for seed in (1, 2))
    assert (first.lungs != second.lungs).mean() > 0.005
    assert random_lesions(1, "covid") != random_lesions(2, "covid")


def test_lesions_and_noise_leave_the_person_as_it_is(healthy: Phantom) -> None:
    lesion = Lesion("ground glass", 30)
    other = make_phantom(1, shape=SMALL, lesions=[lesion], noise_hu=0)
    quiet = make_phantom(1, shape=SMALL, noise_hu=0)
    assert np.array_equal(other.lungs, healthy.lungs)
    changed = other.scan.pixels != quiet.scan.pixels
    near = ndimage.binary_dilation(other.lesions > 0, iterations=7)
    assert changed.any()
    assert not changed[~near].any()


def test_scan_states_units_spacing_and_orientation(healthy: Phantom) -> None:
    scan = healthy.scan
    assert scan.is_hu
    assert scan.pixels.dtype == np.float32
    assert scan.spacing == (16.0, 2.8, 2.8)
    assert scan.orientation == "SPL"
    assert np.array_equal(scan.pixels, np.rint(scan.pixels))
    assert make_phantom(0).scan.spacing == pytest.approx((8.0, 1.4, 1.4))


def test_orientation_is_that_of_the_anatomy(ill: Phantom) -> None:
    hu, lungs = ill.scan.pixels, ill.lungs
    bone = hu[:, :, 118:138] > 250
    assert bone[:, 150:].sum() > 2 * bone[:, :106].sum(), "more spine below than breastbone above"
    # The patient's right is on the viewer's left, and the heart takes room from the left lung.
    assert np.nonzero(lungs == RIGHT)[2].mean() < 128 < np.nonzero(lungs == LEFT)[2].mean()
    assert (lungs == LEFT).sum() < (lungs == RIGHT).sum()
    # The abdomen is at the start of the stack: more soft tissue than at the narrow end of the shoulders.
    assert (hu[0] > 0).sum() > 1.5 * (hu[-1] > 0).sum()


def test_lung_profile_rises_from_the_base_and_falls_to_the_apex() -> None:
    area = (make_phantom(3).lungs > 0).sum(axis=(1, 2))
    smooth = ndimage.uniform_filter1d(area.astype(float), 3)
    peak = int(smooth.argmax())
    assert 8 <= peak <= 22
    assert (np.diff(smooth[: peak + 1]) >= -0.02 * smooth[peak]).all()
    assert (np.diff(smooth[peak:]) <= 0.02 * smooth[peak]).all()
    assert area[-1] == 0
    assert area[peak] / (256 * 256) > 0.15


def test_lung_volumes_are_those_of_adults() -> None:
    for seed in range(5):
        phantom = make_phantom(seed, shape=(8, 64, 64))
        litres = (phantom.lungs > 0).sum() * phantom.voxel_ml / 1000
        assert 2.5 < litres < 6


def test_masks_are_exact_before_blur_and_noise() -> None:
    phantom = make_phantom(4, shape=SMALL, noise_hu=0, psf_mm=0)
    hu, lung = phantom.scan.pixels, phantom.lungs > 0
    assert -900 < np.median(hu[lung]) < -750
    assert (hu[lung] < -700).mean() > 0.85, "vessels alone are denser"
    around = ndimage.binary_dilation(lung, np.ones((1, 3, 3))) & ~lung
    assert (hu[around] > -150).mean() > 0.99
    edge = lung & ~ndimage.binary_erosion(lung, np.ones((1, 3, 3)))
    assert (hu[edge] < -600).mean() > 0.85


def test_typical_densities(ill: Phantom) -> None:
    hu = ill.scan.pixels
    aired = core(ill.lungs > 0) & ~ndimage.binary_dilation(ill.lesions > 0, iterations=3)
    assert -860 < hu[aired].mean() < -740
    assert hu[:, :4].mean() == pytest.approx(-1000, abs=10)
    counts, edges = np.histogram(hu[hu > -300], bins=np.arange(-300, 900, 20))
    peaks = edges[np.argsort(counts)[-12:]]
    assert ((peaks >= -140) & (peaks < -60)).any(), "fat"
    assert ((peaks >= 20) & (peaks < 80)).any(), "soft tissue"
    assert 0.002 < (hu > 200).mean() < 0.03, "bone"


def test_the_back_of_the_lung_is_denser(healthy: Phantom) -> None:
    lung = core(healthy.lungs > 0)
    level = healthy.scan.pixels[8]
    rows = np.nonzero(lung[8].any(axis=1))[0]
    third = len(rows) // 3
    front, back = (np.median(level[part][lung[8][part]]) for part in (rows[:third], rows[-third:]))
    assert back > front + 15


@pytest.mark.parametrize("number", range(1, 6))
def test_density_inside_each_kind_of_lesion(ill: Phantom, number: int) -> None:
    record = ill.lesion_records[number - 1]
    assert record.kind == EACH_KIND[number - 1].kind
    inside = core(ill.lesions == number)
    assert inside.sum() > 30
    # Vessels shine through, the air of bronchi darkens.
    assert np.median(ill.scan.pixels[inside]) == pytest.approx(record.density_hu, abs=45)


def test_vessels_shine_through_ground_glass() -> None:
    lesions = [Lesion("ground glass", 150, density_hu=-550)]
    phantom = make_phantom(2, lesions=lesions, noise_hu=0)
    inside = core(phantom.lesions > 0)
    assert (phantom.scan.pixels[inside] > -350).mean() > 0.01


def test_records_match_the_mask(ill: Phantom) -> None:
    assert [record.side for record in ill.lesion_records] == [lesion.side for lesion in EACH_KIND]
    for number, record in enumerate(ill.lesion_records, 1):
        mask = ill.lesions == number
        assert mask.sum() * 8 * 1.4 * 1.4 / 1000 == pytest.approx(record.volume_ml)
        sides = np.unique(ill.lungs[mask])
        assert sides.tolist() == [RIGHT if record.side == "right" else LEFT]
        centre = np.mean(np.nonzero(mask), axis=1)
        assert record.centre_voxel == tuple(np.rint(centre))
        assert record.centre_mm == pytest.approx(centre * ill.scan.spacing)


@given(
    kind=st.sampled_from(KINDS),
    volume=st.floats(5, 110),
    side=st.sampled_from(["right", "left", None]),
    seed=st.integers(0, 50),
)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_volume_is_the_requested_one(kind: str, volume: float, side: str | None, seed: int) -> None:
    lesion = Lesion(kind, volume, side=side)  # type: ignore[arg-type]
    phantom = make_phantom(seed, shape=(10, 96, 96), lesions=[lesion, lesion])
    for number, record in enumerate(phantom.lesion_records, 1):
        mask = phantom.lesions == number
        assert record.volume_ml == pytest.approx(volume, rel=0.1)
        assert mask.sum() * phantom.voxel_ml == pytest.approx(record.volume_ml)
        assert (phantom.lungs[mask] > 0).all()
        assert side in (None, record.side)


def test_more_volume_gives_more_voxels() -> None:
    volumes = [5, 20, 80]
    counts = [
        int((make_phantom(3, shape=SMALL, lesions=[Lesion("ground glass", ml)]).lesions > 0).sum())
        for ml in volumes
    ]
    assert counts == sorted(set(counts))


def test_ground_glass_is_near_the_wall_and_mostly_posterior() -> None:
    depths, heights = [], []
    for seed in range(6):
        phantom = make_phantom(seed, shape=(8, 96, 96), lesions=[Lesion("ground glass", 10)])
        inside = np.pad(phantom.lungs > 0, ((0, 0), (1, 1), (1, 1)))
        depth = np.stack([ndimage.distance_transform_edt(level, sampling=358.4 / 96) for level in inside])
        depths.append(np.median(depth[:, 1:-1, 1:-1][phantom.lesions > 0]))
        rows = np.nonzero(phantom.lungs)[1]
        heights.append(np.nonzero(phantom.lesions)[1].mean() - rows.mean())
    assert np.median(depths) < 14
    assert np.mean(heights) > 4


def test_lobar_consolidation_stops_at_the_fissure() -> None:
    person = np.random.default_rng((1, 1))
    frame = AnatomyFrame.of(SMALL, (16.0, 2.8, 2.8), Build.draw(person).scale, person)
    lobes = label_lobes(frame, make_phantom(1, shape=SMALL).lungs)
    # Begin in the left lower lobe, outermost where it meets the upper lobe.
    z, y, x = np.nonzero((lobes == 5) & ndimage.binary_dilation(lobes == 4))
    first = int(x.argmax())
    centre = (z[first] * 16.0, y[first] * 2.8, x[first] * 2.8)

    def lobes_met(kind: Kind) -> set[int]:
        phantom = make_phantom(1, shape=SMALL, lesions=[Lesion(kind, 150, centre=centre)])
        return set(lobes[phantom.lesions > 0].tolist())

    assert lobes_met("lobar consolidation") == {5}
    assert lobes_met("consolidation") == {4, 5}, "other lesions cross the fissure"


def test_a_nodule_is_at_its_given_centre() -> None:
    empty = make_phantom(5, shape=SMALL)
    deep = ndimage.distance_transform_edt(empty.lungs == RIGHT, sampling=empty.scan.spacing)
    voxel = np.unravel_index(deep.argmax(), deep.shape)
    centre = tuple(float(index * step) for index, step in zip(voxel, empty.scan.spacing or (), strict=True))
    record = make_phantom(
        5,
        shape=SMALL,
        lesions=[Lesion("nodule", 8, centre=centre)],  # type: ignore[arg-type]
    ).lesion_records[0]
    assert record.side == "right"
    assert np.linalg.norm(np.subtract(record.centre_mm, centre)) < 6


@pytest.mark.parametrize(
    ("lesion", "message"),
    [
        (Lesion("ground glass", 5000), "cannot hold"),
        (Lesion("lobar consolidation", 1500), "cannot hold"),
        (Lesion("nodule", 0.2), "too small for voxels of 0.125 ml"),
        (Lesion("nodule", 5, centre=(0, 0, 0)), "not in a free part of a lung"),
        (Lesion("nodule", 5, centre=(1e4, 0, 0)), "not in a free part of a lung"),
    ],
)
def test_impossible_lesions_are_refused(lesion: Lesion, message: str) -> None:
    with pytest.raises(GroundglassError, match=message):
        make_phantom(1, shape=SMALL, lesions=[lesion])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "tumour", "volume_ml": 1}, "no lesion kind 'tumour'; choose from ground glass"),
        ({"kind": "nodule", "volume_ml": 0}, "must be positive"),
        ({"kind": "nodule", "volume_ml": float("nan")}, "must be positive"),
        ({"kind": "nodule", "volume_ml": 1, "side": "middle"}, "'right' or 'left'"),
        ({"kind": "nodule", "volume_ml": 1, "density_hu": -2000}, "density"),
    ],
)
def test_senseless_lesions_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(GroundglassError, match=message):
        Lesion(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments",
    [{"seed": -1}, {"shape": (4, 16, 64)}, {"spacing": (1, 0, 1)}, {"noise_hu": -1.0}, {"psf_mm": -1.0}],
)
def test_senseless_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(GroundglassError, match="phantom"):
        make_phantom(**arguments)  # type: ignore[arg-type]


def test_a_small_field_of_view_cuts_the_chest() -> None:
    phantom = make_phantom(1, shape=(4, 64, 64), spacing=(5.0, 2.0, 2.0))
    assert phantom.scan.spacing == (5.0, 2.0, 2.0)
    assert (phantom.lungs[:, :, 0] == RIGHT).any()


def test_diseases_are_what_their_names_say() -> None:
    assert random_lesions(3, "none") == ()
    for seed in range(20):
        covid = random_lesions(seed, "covid")
        assert {lesion.kind for lesion in covid} <= {"ground glass", "consolidation"}
        assert {lesion.side for lesion in covid if lesion.kind == "ground glass"} == {"right", "left"}
    others = [{lesion.kind for lesion in random_lesions(seed, "other")} for seed in range(20)]
    assert {kind for kinds in others for kind in kinds} == {"lobar consolidation", "nodule", "emphysema"}
    assert {len(kinds) for kinds in others} == {1}
    with pytest.raises(GroundglassError, match="no disease 'flu'; choose from covid, other, none"):
        random_lesions(3, "flu")


def test_writing_and_reading_back(ill: Phantom, tmp_path: Path) -> None:
    paths = write_phantom(ill, tmp_path, name="chest")
    share = (ill.lungs > 0).mean(axis=(1, 2))
    shown = np.flatnonzero(share > 0.03)
    assert [path.name for path in paths] == [f"chest_{index:03d}.png" for index in shown]
    truth = json.loads((tmp_path / "chest.json").read_text())
    stored = np.load(tmp_path / "chest.npz")
    assert np.array_equal(stored["hu"], ill.scan.pixels)
    assert np.array_equal(stored["lungs"], ill.lungs)
    assert np.array_equal(stored["lesions"], ill.lesions)
    index = int(shown[len(shown) // 2])
    file = f"chest_{index:03d}.png"
    grey = read_image(tmp_path / "slices" / file).pixels
    # The lung window, level -600 and width 1500, in steps of 1/255.
    expected = np.clip((ill.scan.pixels[index] + 1350) / 1500, 0, 1)
    assert np.abs(grey - expected).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(read_image(tmp_path / "lungs" / file).pixels == 1, ill.lungs[index] > 0)
    assert np.array_equal(read_image(tmp_path / "lesions" / file).pixels == 1, ill.lesions[index] > 0)
    row = truth["slices"][len(shown) // 2]
    assert row["file"] == f"slices/{file}"
    lesion, lung = (ill.lesions[index] > 0).sum(), (ill.lungs[index] > 0).sum()
    assert row["lesion_share_of_lung"] == pytest.approx(lesion / lung)
    assert [record["kind"] for record in truth["lesions"]] == [lesion.kind for lesion in EACH_KIND]
    assert truth["lesion_ml"] == pytest.approx(sum(record.volume_ml for record in ill.lesion_records))
    assert truth["lung_ml"]["right"] > truth["lung_ml"]["left"] > 1000


def test_writing_every_second_slice(healthy: Phantom, tmp_path: Path) -> None:
    one, two = write_phantom(healthy, tmp_path / "1"), write_phantom(healthy, tmp_path / "2", every=2)
    assert [path.name for path in two] == [path.name for path in one][::2]
    with pytest.raises(GroundglassError, match="every"):
        write_phantom(healthy, tmp_path, every=0)


def test_a_mixed_set_has_rows_for_a_manifest(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    rows = write_phantom_set(
        tmp_path, count=3, seed=8, shape=(8, 96, 96), progress=lambda done, count: told.append((done, count))
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert {row["patient"] for row in rows} == {"phantom-0008", "phantom-0009", "phantom-0010"}
    for row in rows:
        assert (row["split"], row["source"]) == ("", "phantom")
        covid = row["patient"] == "phantom-0008"
        assert row["label"] == (POSITIVE if covid else NEGATIVE)
        assert Path(row["path"]).is_file()
        assert read_image(Path(row["lungs"])).pixels.max() == 1
        with Image.open(row["lesions"]) as mask:
            assert mask.getextrema()[1] == 255 or not covid
    kinds = json.loads((tmp_path / "phantom-0010.json").read_text())["lesions"]
    assert kinds == []
    with pytest.raises(GroundglassError, match="at least one phantom"):
        write_phantom_set(tmp_path, count=0)


def test_a_set_of_few_slices_still_spans_the_chest(tmp_path: Path) -> None:
    rows = write_phantom_set(tmp_path, count=1, disease="none", shape=(8, 96, 96))
    spacing = json.loads((tmp_path / "phantom-0000.json").read_text())["spacing_mm"]
    assert spacing == pytest.approx([32, 358.4 / 96, 358.4 / 96])
    assert len(rows) >= 5


def test_tree_of_points_on_a_line_is_the_line() -> None:
    points = np.array([[0.0, 0, 0], [0, 0, 3], [0, 0, 1], [0, 0, 2]])
    assert connect(points).tolist() == [[2, 0], [3, 2], [1, 3]]


def test_a_strong_balance_joins_points_to_the_root() -> None:
    """If the path to the root is costly, a detour of 1 + 1.2 is worse than the direct 2."""
    points = np.array([[0.0, 0, 0], [0, 0.6, 1], [0, 0, 2]])
    parents = {balance: dict(connect(points, balance).tolist()) for balance in (0.1, 10.0)}
    assert parents[0.1][2] == 1
    assert parents[10.0][2] == 0
