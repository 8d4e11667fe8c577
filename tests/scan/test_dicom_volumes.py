"""Phantom series as they come from scanners, with every encoding and fault, read back into volumes."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from dicom_faults import write_faulty_dicom, write_series
from groundglass.errors import ScanError
from groundglass.phantom import Phantom, make_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.phantom.dicom_syntax import SYNTAXES
from groundglass.phantom.phantom import phantom_geometry
from groundglass.scan.find import find_series
from groundglass.scan.volume import Series, Volume

SLICES = 16
EXACT = [name for name in SYNTAXES if name not in ("jpeg-ls-near", "jpeg-2000-lossy")]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(shape=(SLICES, 64, 64))


@pytest.fixture(scope="module")
def hu(phantom: Phantom) -> NDArray[np.float32]:
    """What a reader must return: integer HU, nothing below air."""
    return np.clip(np.rint(phantom.scan.pixels), -1024, None)


def only(folder: Path) -> Series:
    listing = find_series([folder])
    assert len(listing.series) == 1, listing
    return listing.series[0]


def pixels(volume: Volume) -> NDArray[np.float32]:
    return np.stack([volume.read(number) for number in range(volume.shape[0])])


def said(series: Series, words: str) -> bool:
    return any(words in warning for warning in series.warnings)


@pytest.mark.parametrize(
    ("stated", "years"), [("018M", 1.5), ("034Y", 34), ("005D", 0.0137), ("", None), ("old", None)]
)
def test_the_patients_age_is_read(tmp_path: Path, phantom: Phantom, stated: str, years: float | None) -> None:
    for file in write_phantom_dicom(phantom, tmp_path):
        dataset = dcmread(file)
        dataset.PatientAge = stated
        dataset.save_as(file)
    assert only(tmp_path).load().age_years == (None if years is None else pytest.approx(years, abs=1e-4))


@pytest.mark.parametrize("syntax", EXACT)
@pytest.mark.parametrize("storage", ["unsigned", "signed", "signed-1024", "unsigned-8192", "half-hu"])
def test_every_lossless_syntax_gives_the_same_hounsfield_units(
    tmp_path: Path, phantom: Phantom, hu: NDArray[np.float32], syntax: str, storage: str
) -> None:
    write_series(phantom, tmp_path, syntax=syntax, storage=storage, names="shuffled")
    volume = only(tmp_path).load()
    assert volume.is_hu
    assert volume.read(0).dtype == np.float32
    np.testing.assert_array_equal(pixels(volume), hu)


@pytest.mark.parametrize(("syntax", "most"), [("jpeg-ls-near", 2), ("jpeg-2000-lossy", 400)])
def test_lossy_pixels_are_read_with_a_warning(
    tmp_path: Path, phantom: Phantom, hu: NDArray[np.float32], syntax: str, most: int
) -> None:
    write_phantom_dicom(phantom, tmp_path, syntax=syntax)
    series = only(tmp_path)
    off = np.abs(pixels(series.load()) - hu)
    assert 0 < off.max() <= most
    assert said(series, "lossy compression")


@pytest.mark.parametrize("form", ["enhanced", "legacy-enhanced"])
@pytest.mark.parametrize("syntax", ["explicit-little", "deflated", "jpeg-lossless", "rle"])
def test_multi_frame_files_give_their_frames_in_order(
    tmp_path: Path, phantom: Phantom, hu: NDArray[np.float32], form: str, syntax: str
) -> None:
    paths = write_phantom_dicom(phantom, tmp_path, form=form, syntax=syntax)  # type: ignore[arg-type]
    assert len(paths) == 1
    series = only(tmp_path)
    volume = series.load()
    np.testing.assert_array_equal(pixels(volume), hu)
    assert series.source == paths[0]
    assert volume.origin is not None
    assert {one.frame for one in volume.origin.instances} == set(range(SLICES))


@pytest.mark.parametrize("names", ["ordered", "reversed", "shuffled"])
def test_the_order_and_geometry_come_from_positions_not_names(
    tmp_path: Path, phantom: Phantom, names: str
) -> None:
    write_series(phantom, tmp_path, names=names)
    volume = only(tmp_path).load()
    truth = phantom_geometry(phantom)
    assert volume.geometry is not None
    np.testing.assert_allclose(volume.geometry.positions, truth.positions, atol=1e-3)
    np.testing.assert_allclose(volume.geometry.row_step, truth.row_step, atol=1e-6)
    np.testing.assert_allclose(volume.geometry.column_step, truth.column_step, atol=1e-6)
    assert volume.scan_id == "series-1"


@pytest.mark.parametrize("fault", ["prone", "feet-first", "quarter-turn"])
def test_the_volume_is_upright_for_any_patient_position(
    tmp_path: Path, phantom: Phantom, hu: NDArray[np.float32], fault: str
) -> None:
    write_faulty_dicom(phantom, tmp_path, fault=fault)
    series = only(tmp_path)
    volume = series.load()
    np.testing.assert_array_equal(pixels(volume), hu)
    assert said(series, "turned upright")
    assert volume.geometry is not None
    truth = phantom_geometry(phantom)
    np.testing.assert_allclose(volume.geometry.positions, truth.positions, atol=1e-3)
    np.testing.assert_allclose(volume.geometry.row_step, truth.row_step, atol=1e-6)
    assert volume.origin is not None
    one = volume.read(3)
    np.testing.assert_array_equal(volume.origin.upright(volume.origin.stored(one)), one)


@pytest.mark.parametrize(
    ("fault", "words", "slices"),
    [
        ("missing-slices", "2 slices missing, between", 14),
        ("uneven-spacing", "uneven spacing, 16.00 to 32.00 mm", 12),
        ("gantry-tilt", "gantry tilt of 15 degrees", 16),
        ("oblique", "slightly oblique: 15 degrees", 16),
        ("turned-in-plane", "rotated in their plane by 15 degrees", 16),
        ("prone", "face down (prone)", 16),
        ("same-places", "2 slices left out: at the position of another", 16),
        ("same-images", "2 slices left out: the same image again", 16),
        ("one-uid", "share one SOPInstanceUID", 16),
        ("minimal-header", "no modality", 16),
        ("no-position", "ordered by InstanceNumber", 16),
        ("no-pixel-spacing", "no pixel spacing", 16),
        ("infinite-spacing", "no pixel spacing", 16),
        ("zero-spacing", "no pixel spacing", 16),
        ("no-rescale", "no rescale to HU", 16),
        ("text-position", "1 slice left out: no position", 15),
        ("truncated-pixels", "1 slice left out: cut short", 15),
        ("head", "BodyPartExamined says HEAD", 16),
        ("one-slice", "only 1 slice", 1),
    ],
)
def test_awkward_series_are_read_with_a_warning(
    tmp_path: Path, phantom: Phantom, fault: str, words: str, slices: int
) -> None:
    write_faulty_dicom(phantom, tmp_path, fault=fault)
    series = only(tmp_path)
    assert series.usable
    assert said(series, words), series.warnings
    volume = series.load()
    assert volume.shape == (slices, 64, 64)
    assert all(np.isfinite(volume.read(number)).all() for number in range(slices))
    assert len(volume.warnings) == len(series.warnings)
    placed = not said(series, "no orientation") and not said(series, "ordered by")
    assert volume.oriented is placed is (fault not in ("minimal-header", "no-position"))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("localizer-alone", "localizer"),
        ("secondary-capture", "modality OT"),
        ("mr", "magnetic resonance"),
        ("pet", "PET"),
        ("radiograph", "radiograph"),
        ("report", "structured report"),
        ("segmentation", "segmentation"),
        ("coronal", "coronal"),
        ("sagittal", "sagittal"),
        ("one-position", "all 16 slices are at the same position"),
        ("no-pixels", "no pixels"),
        ("float-pixels", "floating-point"),
        ("zero-slope", "RescaleSlope is 0"),
        ("nan-slope", "not a number"),
        ("absurd-frames", "2000000000 frames"),
        ("eight-bit-window", "grey levels"),
        ("wrong-size", "cut short"),
        ("all-truncated", "cut short"),
        ("unknown-syntax", "transfer syntax cannot be read"),
        ("wrong-syntax", "not stored as its transfer syntax says"),
    ],
)
def test_what_is_not_a_chest_ct_is_refused_with_a_remedy(
    tmp_path: Path, phantom: Phantom, fault: str, words: str
) -> None:
    write_faulty_dicom(phantom, tmp_path, fault=fault)
    series = only(tmp_path)
    assert not series.usable
    assert words in series.problem
    assert series.remedy
    with pytest.raises(ScanError, match=words):
        series.load()


@pytest.mark.parametrize("fault", ["overlay-bits", "monochrome1", "no-preamble", "no-meta", "no-rescale"])
def test_harmless_oddities_change_no_value(
    tmp_path: Path, phantom: Phantom, hu: NDArray[np.float32], fault: str
) -> None:
    write_faulty_dicom(phantom, tmp_path, fault=fault)
    np.testing.assert_array_equal(pixels(only(tmp_path).load()), hu)


@pytest.mark.parametrize(
    ("storage", "padding"), [("signed-1024", -2000), ("unsigned-8192", 63536), ("unsigned-16", 63536)]
)
@pytest.mark.parametrize("syntax", ["implicit-little", "explicit-big", "jpeg-lossless"])
def test_padding_becomes_air(
    tmp_path: Path, phantom: Phantom, hu: NDArray[np.float32], storage: str, padding: int, syntax: str
) -> None:
    write_series(phantom, tmp_path, storage=storage, padding=padding, syntax=syntax)
    read = pixels(only(tmp_path).load())
    assert (read[:, :3, :3] == -1024).all()
    inner = (slice(None), slice(24, 40), slice(24, 40))
    np.testing.assert_array_equal(read[inner], hu[inner])
    assert read.max() < 3000


def test_a_range_of_padding_becomes_air(tmp_path: Path, phantom: Phantom) -> None:
    write_faulty_dicom(phantom, tmp_path, fault="padding-range")
    read = pixels(only(tmp_path).load())
    assert (read[:, :3, :3] == -1024).all()
    assert read.max() > 300


@pytest.mark.parametrize(
    ("fault", "sizes"),
    [
        ("two-acquisitions", [16, 16]),
        ("two-series", [16, 16]),
        ("two-patients", [16, 16]),
        ("two-patients-one-series", [8, 8]),
        ("mixed-pixel-spacing", [8, 8]),
        ("mixed-sizes", [8, 8]),
        ("localizer-in-series", [1, 16]),
    ],
)
def test_mixed_content_is_separated(tmp_path: Path, phantom: Phantom, fault: str, sizes: list[int]) -> None:
    write_faulty_dicom(phantom, tmp_path, fault=fault)
    listing = find_series([tmp_path])
    assert sorted(one.slices for one in listing.series) == sizes
    assert len({one.content for one in listing.series}) == len(sizes)


STEPS: dict[str, Callable[[int], dict[str, object]]] = {
    "steps of two slices": lambda n: {"AcquisitionNumber": n // 2},
    "steps of four slices with times": lambda n: {"AcquisitionTime": f"1200{n // 4 * 8:02d}"},
    "files made in any order": lambda n: {"ContentTime": f"12{(7 * n % 5) * 7:02d}00"},
    "two tables of contrast agent": lambda n: {"ContrastBolusAgent": "A" if n < 5 else "B"},
    "two thicknesses by chance": lambda n: {
        "SliceThickness": "5" if n in (0, 2, 3, 7, 8, 9, 14) else "5.001"
    },
}
"""Values that differ within one valid stack."""


@pytest.mark.parametrize("kind", STEPS)
def test_one_stack_stays_one_whatever_its_headers_count(tmp_path: Path, phantom: Phantom, kind: str) -> None:
    for number, path in enumerate(write_phantom_dicom(phantom, tmp_path)):
        image = dcmread(path)
        for keyword, value in STEPS[kind](number).items():
            setattr(image, keyword, value)
        image.save_as(path)
    series = only(tmp_path)
    assert series.slices == SLICES


def test_the_seam_of_two_acquisitions_leaves_no_gap(tmp_path: Path, phantom: Phantom) -> None:
    write_faulty_dicom(phantom, tmp_path, fault="shared-seam")
    volume = only(tmp_path).load()
    assert volume.geometry is not None
    np.testing.assert_allclose(volume.geometry.positions, phantom_geometry(phantom).positions, atol=1e-3)


@pytest.mark.parametrize("fault", ["corrupt-jpeg", "corrupt-jpeg-ls", "corrupt-rle"])
def test_a_damaged_slice_gives_its_error_and_the_others_their_pixels(
    tmp_path: Path, phantom: Phantom, fault: str
) -> None:
    write_faulty_dicom(phantom, tmp_path, fault=fault)
    got = list(only(tmp_path).load().slices())
    errors = [one for one in got if isinstance(one, ScanError)]
    assert len(errors) == 1
    assert "damaged" in str(errors[0])
    assert str(tmp_path) in str(errors[0])
    assert len(got) == SLICES


@pytest.mark.parametrize("fault", ["truncated-header", "empty-file", "text-file"])
def test_an_unreadable_file_is_a_failure_and_the_others_go_on(
    tmp_path: Path, phantom: Phantom, fault: str
) -> None:
    write_faulty_dicom(phantom, tmp_path, fault=fault)
    listing = find_series([tmp_path])
    assert len(listing.failures) == 1
    assert [one.slices for one in listing.series] == [15]


def test_threads_may_read_at_once(tmp_path: Path, phantom: Phantom, hu: NDArray[np.float32]) -> None:
    write_phantom_dicom(phantom, tmp_path, syntax="jpeg-lossless")
    volume = only(tmp_path).load()
    wrong: list[int] = []

    def read() -> None:
        wrong.extend(n for n in range(SLICES) if not np.array_equal(volume.read(n), hu[n]))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_file_that_changed_since_it_was_listed_is_refused(tmp_path: Path, phantom: Phantom) -> None:
    paths = write_phantom_dicom(phantom, tmp_path)
    volume = only(tmp_path).load()
    content = only(tmp_path).content
    paths[0].write_bytes(paths[0].read_bytes()[:-2] + b"\0\0")
    with pytest.raises(ScanError, match="changed since"):
        volume.read(0)
    assert only(tmp_path).content != content


@pytest.mark.parametrize(
    "fault", [None, "control-characters", "truncated-pixels", "head", "mr", "truncated-header"]
)
def test_no_message_identifies_the_patient(
    tmp_path: Path, phantom: Phantom, fault: str | None, recwarn: pytest.WarningsRecorder
) -> None:
    person = {"PatientName": "Doe^Jane", "PatientID": "SECRET-7"}
    paths = write_series(phantom, tmp_path, fault or "", **person)
    for path in paths[:2]:  # pydicom warns of such UIDs and IDs, and quotes them
        path.write_bytes(
            path.read_bytes().replace(b"1.2.826", b"1.2.Z26").replace(b"SECRET-7", b"SECRET\x1b\xff")
        )
    recwarn.clear()
    listing = find_series([tmp_path])
    told = [*map(str, listing.failures), repr(listing), *(str(one.message) for one in recwarn)]
    for one in listing.series:
        told += [one.problem, one.remedy, *one.warnings]
        if one.usable:
            told += [one.load().scan_id, *one.load().warnings]
    for text in told:
        assert not any(secret in text for secret in ("Doe", "Jane", "SECRET", "1.2.826", "2.25."))
