from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from groundglass.detect.detector import Detector
from groundglass.detect.findings import SliceFinding
from groundglass.detect.patient import PatientFinding, conclude
from groundglass.detect.volume import answer_volume
from groundglass.errors import GroundglassError, ScanError
from groundglass.labels import NOT_A_CHEST_CT, POSITIVE
from groundglass.phantom import Phantom
from groundglass.phantom.phantom import phantom_geometry
from groundglass.scan.volume import Volume
from groundglass.segment.shares import LESION, counts


def volume(phantom: Phantom, read: Callable[[int], np.ndarray] | None = None) -> Volume:
    pixels = phantom.scan.pixels
    return Volume(pixels.shape, True, "ct", Path("x"), read or pixels.__getitem__, phantom_geometry(phantom))


@pytest.fixture(scope="module")
def answer(usual_detector: Detector, covid_phantom: Phantom) -> PatientFinding:
    return answer_volume(usual_detector, volume(covid_phantom))


def test_a_phantom_with_lesions_is_positive(answer: PatientFinding) -> None:
    assert answer.verdict == POSITIVE


def test_lungs_and_lesions_are_measured(answer: PatientFinding, covid_phantom: Phantom) -> None:
    lungs = (covid_phantom.lungs > 0).sum() * covid_phantom.voxel_ml
    lesions = (covid_phantom.lesions > 0).sum() * covid_phantom.voxel_ml
    both = answer.extent["both"]
    assert both.lung_ml == pytest.approx(lungs, rel=0.03)
    assert both.lesion_ml == pytest.approx(lesions, rel=0.35)
    found = answer.masks.labels & 3
    agree = found == covid_phantom.lungs
    assert agree[(found > 0) & (covid_phantom.lungs > 0)].mean() > 0.999


def test_volumes_from_the_exact_masks_are_within_one_percent(
    usual_detector: Detector, covid_phantom: Phantom
) -> None:
    """Only the measurement: what the masks give, also on a stack with missing slices."""
    labels = covid_phantom.lungs | ((covid_phantom.lesions > 0) * np.uint8(LESION))
    geometry = phantom_geometry(covid_phantom)
    slices = [
        SliceFinding(
            0.5, 0.5, number=n + 1, height_mm=0.0, counted=True, lungs_px=areas[0], lesions_px=areas[1]
        )
        for n, areas in enumerate(map(counts, labels))
    ]
    finding = conclude(usual_detector.bundle.facts, slices, geometry.thickness_mm, geometry.pixel_mm2)
    for side, value in (("right", 1), ("left", 2)):
        lung = covid_phantom.lungs == value
        extent = finding.extent[side]
        assert extent.lung_ml == pytest.approx(lung.sum() * covid_phantom.voxel_ml, rel=0.01)
        assert extent.lesion_ml == pytest.approx(
            (lung & (covid_phantom.lesions > 0)).sum() * covid_phantom.voxel_ml, rel=0.01
        )


def test_slices_come_in_order_with_their_numbers(answer: PatientFinding, covid_phantom: Phantom) -> None:
    finding = answer
    assert [one.number for one in finding.slices] == list(range(1, len(covid_phantom.lungs) + 1))
    for one, plane in zip(finding.slices, answer.masks.labels, strict=True):
        assert sum(one.lungs_px) == np.count_nonzero(plane)
        assert (one.probability is None) == (not plane.any())
        assert (one.reason != "") == (not plane.any())
    assert finding.most_telling(1)[0].number - 1 == (answer.masks.labels >= LESION).sum(axis=(1, 2)).argmax()


def test_answers_are_those_of_single_slices(
    answer: PatientFinding, usual_detector: Detector, covid_phantom: Phantom
) -> None:
    number = answer.most_telling(1)[0].number - 1
    alone = usual_detector(volume(covid_phantom).slice(number))
    assert answer.slices[number].probability == pytest.approx(alone.probability, abs=1e-6)


def test_a_detector_answers_volumes_too(
    answer: PatientFinding, usual_detector: Detector, covid_phantom: Phantom
) -> None:
    finding = usual_detector(volume(covid_phantom))
    assert finding.to_dict() == answer.to_dict()


def test_every_slice_is_seen_once(usual_detector: Detector, covid_phantom: Phantom) -> None:
    seen: list[None] = []
    answer_volume(usual_detector, volume(covid_phantom), lambda: seen.append(None))
    assert len(seen) == len(covid_phantom.lungs)


def test_a_damaged_slice_is_left_out_and_its_place_is_shared(
    usual_detector: Detector, covid_phantom: Phantom, answer: PatientFinding
) -> None:
    def read(number: int) -> np.ndarray:
        if number == 9:
            raise ScanError("x", "is cut short")
        return covid_phantom.scan.pixels[number]

    finding = answer_volume(usual_detector, volume(covid_phantom, read))
    assert finding.slices[9].reason == "is cut short"
    assert any("1 of 20 slices cannot be read" in warning for warning in finding.warnings)
    assert finding.extent["both"].lung_ml == pytest.approx(answer.extent["both"].lung_ml, rel=0.03)


def test_many_damaged_slices_are_refused(usual_detector: Detector, covid_phantom: Phantom) -> None:
    def read(number: int) -> np.ndarray:
        if number % 5 == 0:
            raise ScanError("x", "is cut short", "get a new copy")
        return covid_phantom.scan.pixels[number]

    with pytest.raises(ScanError, match="4 of 20 slices cannot be read; the first: is cut short"):
        answer_volume(usual_detector, volume(covid_phantom, read))


def test_a_volume_without_lungs(usual_detector: Detector, covid_phantom: Phantom) -> None:
    flesh = np.random.default_rng(0).normal(40, 20, covid_phantom.scan.pixels.shape[1:]).astype(np.float32)
    finding = answer_volume(usual_detector, volume(covid_phantom, lambda number: flesh))
    assert finding.verdict == NOT_A_CHEST_CT
    assert finding.counted == []


def test_without_a_segmenter_a_volume_is_refused(covid_phantom: Phantom) -> None:
    with pytest.raises(GroundglassError, match="--no-lungs"):
        answer_volume(Detector.load("covid-ct-lite0", lungs=False), volume(covid_phantom))
