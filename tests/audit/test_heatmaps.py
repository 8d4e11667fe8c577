"""GG204 and GG205: where heatmaps are, and whether the answer depends on it."""

from dataclasses import replace

import numpy as np
import pytest
from cheats import planted_trial
from sklearn.metrics import auc

from groundglass.audit.check import NotApplicable
from groundglass.audit.detector.heatmaps import (
    SHARES,
    Deletion,
    HeatmapPlace,
    Place,
    area_under,
    called_covid,
    fading,
    heat_on,
    pixel_order,
)
from groundglass.audit.trial import Trial
from groundglass.detect.findings import SliceFinding, SliceView
from groundglass.detect.heatmap import evidence_map
from groundglass.preprocess import Box, Preprocessing
from groundglass.scan.scan import Scan


@pytest.fixture(scope="module")
def cheat(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return planted_trial(tmp_path_factory.getbasetemp(), "border")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return planted_trial(tmp_path_factory.getbasetemp(), "lungs")


@pytest.fixture(scope="module")
def unexplained(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return planted_trial(tmp_path_factory.getbasetemp(), "lungs, unexplained")


def finding(
    evidence: np.ndarray, shape: tuple[int, int], preprocessing: Preprocessing, region: Box | None = None
) -> SliceFinding:
    whole = Box(top=0, left=0, height=shape[0], width=shape[1])
    scan = Scan(np.full(shape, 0.5, dtype=np.float32), is_hu=False, scan_id="x")
    view = SliceView(evidence.astype(np.float32), region or whole, preprocessing, scan)
    return SliceFinding(0.9, 0.9, "covid", view=view)


def test_evidence_on_the_slice_is_the_logit_of_each_location() -> None:
    """An even map of 4 x 4 cells of a quarter each gives a logit of 4 everywhere, for any size of slice."""
    laid = evidence_map(finding(np.full((4, 4), 0.25), (50, 100), Preprocessing(size=(64, 64))))
    assert laid.shape == (50, 100)
    assert laid.dtype == np.float32
    np.testing.assert_allclose(laid, 4, rtol=1e-5)


def test_evidence_is_signed_and_nowhere_outside_what_was_seen() -> None:
    evidence = np.array([[1.0, 1], [-1, -1]])
    region = Box(top=10, left=20, height=30, width=40)
    laid = evidence_map(finding(evidence, (60, 90), Preprocessing(size=(32, 32), resize="stretch"), region))
    assert (laid[10:20, 20:60] > 0).all()
    assert (laid[30:40, 20:60] < 0).all()
    laid[region.slices] = 0
    assert not laid.any()


def test_a_detector_of_the_border_is_found_to_use_it(cheat: Trial) -> None:
    result = HeatmapPlace().run(cheat)
    assert result.severity == "warning"
    assert result.figure.high < 0
    assert len(result.files) == cheat.truth.sum()


def test_a_detector_of_lesions_is_found_to_use_lungs_and_lesions(honest: Trial) -> None:
    result = HeatmapPlace().run(honest)
    assert result.severity is None
    assert result.figure.low > 0.5
    lungs, lesions = result.rows
    assert (lungs[0], lesions[0]) == ("lungs", "lesions")
    assert float(lesions[-1].split()[0]) > 0.5


def test_shares_are_those_of_the_pixels(honest: Trial) -> None:
    place = called_covid(honest)[0]
    on = heat_on(honest, np.array([place]), lambda found: found.lungs == 1)
    mask = honest.segmentations[place].lungs == 1
    heat = evidence_map(honest.findings[place]).clip(0)
    assert on.evidence[0] == pytest.approx(heat[mask].sum() / heat.sum(), rel=1e-4)
    assert on.area[0] == pytest.approx(mask.mean())
    assert on.area[0] < on.best[0] < 1


def test_the_best_map_of_a_grid_reaches_all_of_a_place_that_fits_it(honest: Trial) -> None:
    """Half of the slice consists of whole cells: all evidence except at the smooth border can be there."""
    half = np.zeros((96, 96), dtype=bool)
    half[:48] = True
    on = heat_on(honest, called_covid(honest)[:1], lambda found: half)
    assert on.area[0] == 0.5
    assert on.best[0] == pytest.approx(1, abs=0.03)


def test_aim_runs_from_an_even_map_to_the_best() -> None:
    area, best, units = np.array([0.2, 0.4]), np.array([0.6, 0.8]), np.arange(2)
    assert Place(area, area, best).aim(units).value == pytest.approx(0)
    assert Place(best, area, best).aim(units).value == pytest.approx(1)
    # (0.4 - 0.3) / (0.7 - 0.3) of the means.
    assert Place(np.array([0.5, 0.3]), area, best).aim(units).value == pytest.approx(0.25)


def test_a_heatmap_that_explains_the_answer_passes_and_another_does_not(
    cheat: Trial, honest: Trial, unexplained: Trial
) -> None:
    assert Deletion().run(cheat).severity is None
    assert Deletion().run(honest).severity is None
    result = Deletion().run(unexplained)
    assert result.severity == "warning"
    assert result.figure.value < 0
    assert "does not reliably show" in result.message


def test_a_detector_that_calls_nothing_covid_shows_no_heatmaps(honest: Trial) -> None:
    silent = replace(honest)
    silent.__dict__["probability"] = np.zeros(len(honest.paths))
    for check in (HeatmapPlace, Deletion):
        with pytest.raises(NotApplicable, match="calls 0 slices"):
            check().run(silent)


@pytest.mark.parametrize("resize", ["pad", "stretch"])
def test_pixels_are_ordered_by_their_cell(resize: str) -> None:
    """Each pixel's cell is looked up by drawing the grid at the input's size and resizing by nearest neighbour."""
    preprocessing = Preprocessing(size=(40, 40), resize=resize)
    heat = np.random.default_rng(0).permutation(16).reshape(4, 4)
    shape = (20, 40) if resize == "pad" else (80, 120)
    order = pixel_order(finding(heat, shape, preprocessing), preprocessing, heat)
    drawn = np.kron(heat, np.ones((10, 10)))
    rows, columns = (
        (np.arange(10, 30), np.arange(40)) if resize == "pad" else (np.arange(80) // 2, np.arange(120) // 3)
    )
    expected = drawn[np.ix_(rows, columns)]
    assert sorted(order) == list(range(shape[0] * shape[1]))
    np.testing.assert_array_equal(expected.ravel()[order], np.sort(expected.ravel())[::-1])


def test_only_pixels_that_the_model_saw_are_removed() -> None:
    region = Box(top=2, left=3, height=10, width=8)
    preprocessing = Preprocessing(size=(16, 16))
    seen = finding(np.arange(4).reshape(2, 2), (40, 50), preprocessing, region)
    order = pixel_order(seen, preprocessing, seen.evidence)
    rows, columns = np.unravel_index(order, (40, 50))
    assert (len(order), rows.min(), rows.max(), columns.min(), columns.max()) == (80, 2, 11, 3, 10)


def test_increasingly_much_is_blacked_out() -> None:
    picture = np.full((10, 20), 0.5, dtype=np.float32)
    order = np.random.default_rng(0).permutation(200)
    steps = list(fading(picture, order))
    assert [int((step == 0).sum()) for step in steps] == [10, 20, 40, 80]
    assert not steps[1].ravel()[order[:20]].any()
    assert (picture == 0.5).all()


def test_the_area_is_a_mean_over_the_removed_share() -> None:
    curves = np.array([[0.8] * 5, [0.9, 0.7, 0.6, 0.4, 0.1]])
    expected = [0.8, auc([0, *SHARES], curves[1]) / SHARES[-1]]
    np.testing.assert_allclose(area_under(curves), expected)
