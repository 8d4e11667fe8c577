from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from groundglass.detect.detector import Detector
from groundglass.detect.volume import VolumeFinding, answer_volume
from groundglass.phantom import Phantom
from groundglass.phantom.phantom import phantom_geometry
from groundglass.report.page import PICTURE_SIDE
from groundglass.report.volume import BAND, MOST_FRAMES, TILE, Thumbnails, montage, stack
from groundglass.scan.scan import Scan
from groundglass.scan.volume import Volume


@pytest.fixture(scope="module")
def answered(shipped_detector: Detector, covid_phantom: Phantom) -> tuple[Thumbnails, VolumeFinding]:
    pixels = covid_phantom.scan.pixels
    volume = Volume(pixels.shape, True, "ct", Path("x"), pixels.__getitem__, phantom_geometry(covid_phantom))
    thumbnails = Thumbnails(shipped_detector.bundle.facts.preprocessing, len(pixels))
    return thumbnails, answer_volume(shipped_detector, volume, thumbnails.take)


def test_thumbnails_keep_the_shape(shipped_detector: Detector) -> None:
    thumbnails = Thumbnails(shipped_detector.bundle.facts.preprocessing, 2)
    thumbnails.take(1, Scan(np.full((100, 50), -600, dtype=np.float32), is_hu=True, scan_id="x"))
    assert thumbnails.pictures[0] is None
    picture = thumbnails.pictures[1]
    assert picture is not None
    assert picture.shape == (PICTURE_SIDE, PICTURE_SIDE // 2)
    assert np.unique(picture).tolist() == [128]


def test_the_stack_holds_every_slice_and_begins_at_the_worst(
    answered: tuple[Thumbnails, VolumeFinding],
) -> None:
    thumbnails, answer = answered
    made = stack(thumbnails, answer)
    assert len(made.frames) == len(answer.finding.slices)
    assert made.start == (answer.labels > 3).sum(axis=(1, 2)).argmax()
    for frame, labels in zip(made.frames, answer.labels, strict=True):
        grey = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_UNCHANGED)
        assert grey.shape == (PICTURE_SIDE, PICTURE_SIDE)
        assert bool(frame.laid_over) == bool(labels.any())
    over = cv2.imdecode(np.frombuffer(made.frames[made.start].laid_over, np.uint8), cv2.IMREAD_UNCHANGED)
    assert over.shape == (PICTURE_SIDE, PICTURE_SIDE, 4)
    assert 0 < (over[..., 3] > 0).mean() < 0.5


def test_a_long_stack_is_thinned(answered: tuple[Thumbnails, VolumeFinding]) -> None:
    thumbnails, answer = answered
    times = 2 * MOST_FRAMES // len(answer.finding.slices) + 1
    long = replace(
        answer,
        finding=replace(answer.finding, slices=answer.finding.slices * times),
        labels=np.tile(answer.labels, (times, 1, 1)),
    )
    many = Thumbnails(thumbnails._preprocessing, len(long.labels))
    many.pictures = thumbnails.pictures * times
    made = stack(many, long)
    assert MOST_FRAMES / 2 < len(made.frames) <= MOST_FRAMES
    assert "every 3rd" in made.title


def test_the_montage_goes_from_the_head_to_the_feet(answered: tuple[Thumbnails, VolumeFinding]) -> None:
    sheet = montage(*answered, ("covid", "RESEARCH USE ONLY"))
    assert sheet.mode == "RGB"
    assert sheet.width == 5 * TILE
    assert np.asarray(sheet)[:40].max() == 255, "the words"
    first = np.asarray(sheet.crop((0, BAND, TILE, BAND + TILE)).convert("L"), dtype=float)
    bearing = np.flatnonzero(answered[1].labels.any(axis=(1, 2)))
    likeness = {}
    for number in (bearing[0], bearing[-1]):
        grey = answered[0].pictures[number]
        assert grey is not None
        likeness[number] = np.corrcoef(cv2.resize(grey, (TILE, TILE)).ravel(), first.ravel())[0, 1]
    assert likeness[bearing[-1]] > 0.95 > likeness[bearing[0]]
