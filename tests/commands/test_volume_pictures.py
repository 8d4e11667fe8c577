from copy import copy
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from groundglass.detect.detector import Detector
from groundglass.detect.patient import PatientFinding
from groundglass.detect.volume import answer_volume
from groundglass.phantom import Phantom
from groundglass.phantom.phantom import phantom_geometry
from groundglass.scan.scan import Scan
from groundglass.scan.volume import Volume
from groundglass.segment.overlay import BAND, PICTURE_SIDE, TILE, thumbnail
from groundglass.segment.stack import MOST_FRAMES


@pytest.fixture(scope="module")
def answered(shipped_detector: Detector, covid_phantom: Phantom) -> PatientFinding:
    pixels = covid_phantom.scan.pixels
    volume = Volume(pixels.shape, True, "ct", Path("x"), pixels.__getitem__, phantom_geometry(covid_phantom))
    return answer_volume(shipped_detector, volume)


def test_thumbnails_keep_the_shape(shipped_detector: Detector) -> None:
    scan = Scan(np.full((100, 50), -600, dtype=np.float32), is_hu=True, scan_id="x")
    picture = thumbnail(scan, shipped_detector.bundle.facts.preprocessing)
    assert picture.shape == (PICTURE_SIDE, PICTURE_SIDE // 2)
    assert np.unique(picture).tolist() == [128]


def test_the_stack_holds_every_slice_and_begins_at_the_worst(answered: PatientFinding) -> None:
    made = answered.stack()
    assert len(made.frames) == len(answered.slices)
    assert made.start == (answered.masks.labels > 3).sum(axis=(1, 2)).argmax()
    for frame, labels in zip(made.frames, answered.masks.labels, strict=True):
        grey = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_UNCHANGED)
        assert grey.shape == (PICTURE_SIDE, PICTURE_SIDE)
        assert bool(frame.laid_over) == bool(labels.any())
    over = cv2.imdecode(np.frombuffer(made.frames[made.start].laid_over, np.uint8), cv2.IMREAD_UNCHANGED)
    assert over.shape == (PICTURE_SIDE, PICTURE_SIDE, 4)
    assert 0 < (over[..., 3] > 0).mean() < 0.5


def test_a_long_stack_is_thinned(answered: PatientFinding) -> None:
    times = 2 * MOST_FRAMES // len(answered.slices) + 1
    masks = copy(answered.masks)
    masks.labels = np.tile(masks.labels, (times, 1, 1))
    masks.thumbnails = masks.thumbnails * times
    made = replace(answered, slices=answered.slices * times, view=masks).stack()
    assert MOST_FRAMES / 2 < len(made.frames) <= MOST_FRAMES
    assert "every 3rd" in made.title


def test_the_montage_goes_from_the_head_to_the_feet(answered: PatientFinding) -> None:
    sheet = answered.picture()
    assert sheet.mode == "RGB"
    assert sheet.width == 5 * TILE
    assert np.asarray(sheet)[:40].max() == 255, "the words"
    first = np.asarray(sheet.crop((0, BAND, TILE, BAND + TILE)).convert("L"), dtype=float)
    bearing = np.flatnonzero(answered.masks.labels.any(axis=(1, 2)))
    likeness = {}
    for number in (bearing[0], bearing[-1]):
        grey = answered.masks.thumbnails[number]
        assert grey is not None
        likeness[number] = np.corrcoef(cv2.resize(grey, (TILE, TILE)).ravel(), first.ravel())[0, 1]
    assert likeness[bearing[-1]] > 0.95 > likeness[bearing[0]]
