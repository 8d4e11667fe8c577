"""How every kind of bad or unusual input is handled; docs/bad-input.md contains the same table as text."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from bad_input_kinds import ALL, EXPECTED, MAKERS, NONE, SOME, phantom

from dicom_faults.pixels import EIGHT_BIT_STEP_HU
from dicom_faults.series import outside_view
from groundglass.errors import GroundglassError, ScanError
from groundglass.scan.find import find_series
from groundglass.scan.image import read_image

COLUMNS = 5
"""Columns of the tables of kinds; the tables of labels have fewer."""
DOC = Path(__file__).parents[2] / "docs" / "bad-input.md"
PRIVATE = ("Phantom^", "PHANTOM-", "1.2.826.", "Placeholder")
"""Values in the headers that identify the person and must not be repeated."""
AIR_HU = -1024
"""The lowest value that a reader gives."""
SAME_PIXELS = {
    **dict.fromkeys(("prone", "feet-first", "quarter-turn", "localizer-in-series", "other-script"), 0),
    **dict.fromkeys(("same-places", "same-images", "one-uid", "minimal-header", "no-position", "head"), 0),
    **dict.fromkeys(
        ("no-rescale", "monochrome1", "overlay-bits", "padding-range", "no-preamble", "no-meta", "dirfile"), 0
    ),
    **dict.fromkeys(
        ("no-meta-big-endian", "called-implicit", "called-explicit", "called-big-endian", "modality-lut"), 0
    ),
    **dict.fromkeys(
        ("zeroed-position", "table-shift", "changing-intercept", "trailing-bytes", "concatenation"), 0
    ),
    **dict.fromkeys(
        ("copied-folder", "companions", "nifti-numpy-order", "nifti-numpy-identity", "metaimage", "analyze"),
        0,
    ),
    "eight-bits": EIGHT_BIT_STEP_HU / 2,
}
"""Kinds that a reader must read correctly, not only report; the largest error in HU."""


@dataclass
class Outcome:
    """The volumes read, and all messages."""

    slices: list[int]
    said: list[str]
    damaged: int = 0
    failures: int = 0

    @property
    def code(self) -> int:
        if not self.slices:
            return NONE
        return SOME if self.damaged or self.failures else ALL


def outcome(path: Path) -> Outcome:
    result = Outcome([], [])
    try:
        listing = find_series([path])
    except GroundglassError as error:
        return Outcome([], [str(error)])
    result.failures = len(listing.failures)
    result.said += [str(error) for error in listing.failures]
    for picture in listing.pictures:
        try:
            scan = read_image(picture)
        except ScanError as error:
            result.said.append(str(error))
            result.failures += 1
        else:
            result.said += scan.warnings
            result.slices.append(1)
    for series in listing.series:
        result.said += series.warnings
        result.failures += series.damaged if series.usable else 0
        assert bool(series.problem) == bool(series.remedy), "a refusal comes with a remedy"
        try:
            volume = series.load()
        except ScanError as error:
            result.said.append(str(error))
            continue
        assert series.usable, "what the listing refuses cannot be loaded"
        result.said += volume.warnings
        errors = [one for one in volume.slices() if isinstance(one, ScanError)]
        result.said += map(str, errors)
        result.damaged += len(errors)
        result.slices.append(volume.shape[0])
    return result


@pytest.mark.parametrize("kind", MAKERS)
def test_every_kind_is_reported_and_none_crashes(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    path = MAKERS[kind](folder)
    capfd.readouterr()
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        found = outcome(path)
    expected = EXPECTED[kind]
    said = "\n".join(found.said)
    assert expected.says in said
    assert (tuple(found.slices), found.damaged, found.code) == (
        expected.slices,
        expected.damaged,
        expected.code,
    )
    assert bool(expected.says) == bool(said), "nothing is said without a need"
    assert not any(word in said for word in PRIVATE)
    assert all(letter.isprintable() or letter == "\n" for letter in said)
    assert caplog.text == "", "no library talks into the log"
    assert capfd.readouterr() == ("", ""), "no library prints"


@pytest.mark.parametrize("kind", SAME_PIXELS)
def test_what_is_only_awkward_gives_the_very_pixels(kind: str, tmp_path: Path) -> None:
    (series,) = (one for one in find_series([MAKERS[kind](tmp_path)]).series if one.usable)
    volume = series.load()
    pixels = np.stack([volume.read(number) for number in range(volume.shape[0])])
    off = np.abs(pixels - phantom().scan.pixels.clip(AIR_HU))
    if kind == "padding-range":
        padded = np.broadcast_to(outside_view(64, 64), off.shape)
        assert (pixels[padded] == AIR_HU).all()
        off = off[~padded]
    assert off.max() <= SAME_PIXELS[kind]


def rows() -> dict[str, list[str]]:
    """The rows of the tables of the document, by their kind."""
    lines = [line for line in DOC.read_text("utf-8").splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    cells = [row for row in cells if len(row) == COLUMNS]
    assert len({row[0] for row in cells}) == len(cells), "a kind is there twice"
    return {row[0].strip("`| "): row[1:] for row in cells}


def test_the_document_holds_every_kind() -> None:
    assert set(rows()) == set(EXPECTED) == set(MAKERS)


@pytest.mark.parametrize("kind", EXPECTED)
def test_the_document_says_the_same(kind: str) -> None:
    _, does, says, code = rows()[kind]
    expected = EXPECTED[kind]
    assert code.strip("| ") == str(expected.code)
    assert says.strip("“”") == (expected.says or "–")
    assert does.startswith("reads" if expected.slices else "refuses")
