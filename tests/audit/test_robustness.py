"""GG206: verdicts under harmless changes."""

import numpy as np
import pytest
from cheats import SIDE, border_detector, make_trial, plant_border, twins

from groundglass.audit.detector import robustness
from groundglass.audit.detector.robustness import ROBUSTNESS, Robustness
from groundglass.audit.trial import Trial
from groundglass.labels import NEGATIVE, POSITIVE


def bordered(temporary: pytest.TempPathFactory, covid: float, other: float, share: float) -> Trial:
    """A detector that tests whether a border is brighter than 0.5, on slices with borders of two greys."""
    folder = temporary.mktemp("bordered")
    greys = {POSITIVE: covid, NEGATIVE: other}
    manifest = plant_border(twins(temporary.getbasetemp()), folder / "slices", greys=greys, share=share)
    return make_trial(manifest, border_detector(folder / "bundle"), None)


@pytest.fixture(scope="module")
def firm(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """The border is wide enough not to be lost by cropping, and its greys are far apart."""
    return bordered(tmp_path_factory, 0.8, 0.2, 0.14)


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """The greys are so close that slight brightening makes all covid, and slight darkening none."""
    return bordered(tmp_path_factory, 0.53, 0.47, 0.14)


def test_firm_verdicts_pass(firm: Trial) -> None:
    result = Robustness().run(firm)
    assert result.severity is None
    assert result.figure.value == 0
    assert result.files == ()
    assert len(result.rows) == len(ROBUSTNESS)


def test_frail_verdicts_are_counted_and_named(frail: Trial) -> None:
    result = Robustness().run(frail)
    assert result.severity == "warning"
    assert "50.0" in result.message
    flips = {row[0]: float(row[1].split()[0]) for row in result.rows}
    covid = 100 * frail.truth.mean()
    assert flips["made darker by 7% of the grey scale"] == pytest.approx(covid, abs=0.1)
    assert flips["made brighter by 7% of the grey scale"] == pytest.approx(100 - covid, abs=0.1)
    assert flips["mirrored"] == 0
    assert list(flips.values()) == sorted(flips.values(), reverse=True)
    assert result.figure.value == max(flips.values())
    flipped = frail.truth if "darker" in result.rows[0][0] else ~frail.truth
    assert set(result.files) == {path for path, lost in zip(frail.paths, flipped, strict=True) if lost}


def test_the_change_of_the_probability_is_that_of_the_logit(frail: Trial) -> None:
    """The border's grey goes up by 0.07, so the logit by 20 times that."""
    (row,) = (row for row in Robustness().run(frail).rows if "brighter" in row[0])
    logits = np.log(frail.probability / (1 - frail.probability))
    expected = (1 / (1 + np.exp(-logits - 1.4)) - frail.probability).mean()
    assert float(row[2].split()[0]) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(("share", "severity"), [(0.06, None), (0.20, "note"), (0.35, "warning")])
def test_flips_matter_when_they_are_sure(
    firm: Trial, monkeypatch: pytest.MonkeyPatch, share: float, severity: str | None
) -> None:
    """A share of the slices turns black, so that the covid slices among them flip; each slice is its own group."""
    alone = Trial(firm.detector, firm.material, firm.predictions, None, external=False, part="test")
    alone.__dict__["units"] = np.arange(len(firm.paths))
    black = np.flatnonzero(firm.truth)[: round(share * len(firm.paths))]
    dark = {firm.scans[place].pixels.tobytes() for place in black}

    def blackout(picture: np.ndarray) -> np.ndarray:
        return np.zeros((SIDE, SIDE), np.float32) if picture.tobytes() in dark else picture

    monkeypatch.setattr(robustness, "ROBUSTNESS", {"blacked out": blackout})
    result = Robustness().run(alone)
    assert result.figure.value == pytest.approx(100 * len(black) / len(firm.paths))
    assert result.severity == severity


def test_a_limited_number_of_slices_is_tried(firm: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "MOST_SLICES", 12)
    assert "tried on 12 slices" in Robustness().run(firm).message
