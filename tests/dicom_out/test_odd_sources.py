"""Invalid DICOM headers: the output is valid, or nothing is written and the error gives the reason."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_series import PATIENT, STUDY, Study, errors_of
from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from groundglass.dicom_out import Measured, ResultsError, Written, write_results
from groundglass.errors import GroundglassError

KEY = b"a key"
LOSSY = {"LossyImageCompression": b"01"}
RATIO = LOSSY | {"LossyImageCompressionRatio": b"9.5 "}
REMOVED = {"PatientIdentityRemoved": b"YES "}
TOO_LONG = b"1." + b"2" * 63


def put(header: Dataset, keyword: str, content: bytes) -> None:
    """Put these bytes, of an even number and valid or not."""
    tag = Tag(keyword)
    header[tag] = RawDataElement(tag, dictionary_VR(keyword), len(content), content, 0, False, True)


def save(study: Study) -> Study:
    with config.disable_value_validation():
        study.save()
    return study


def stated(study: Study, **contents: bytes) -> Study:
    """Put these bytes into every header."""
    for header in study.headers:
        for keyword, content in contents.items():
            put(header, keyword, content)
    return save(study)


def objects_of(written: Written) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in (written.sr, written.seg, written.sc) if path is not None]


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize(
    ("contents", "warned"),
    [
        ({"FrameOfReferenceUID": b"abc def "}, "no valid FrameOfReferenceUID"),
        ({"StudyInstanceUID": b"abc def "}, "no valid StudyInstanceUID"),
        ({"StudyInstanceUID": TOO_LONG}, "no valid StudyInstanceUID"),
        ({"SeriesInstanceUID": b"1.02"}, "no valid SeriesInstanceUID"),
        ({"SeriesInstanceUID": b"9.1 "}, "no valid SeriesInstanceUID"),
        ({"PositionReferenceIndicator": b"x" * 70}, "PositionReferenceIndicator is not valid"),
        ({"PositionReferenceIndicator": b"IC\\SN "}, "PositionReferenceIndicator is not valid"),
        (LOSSY | {"LossyImageCompressionRatio": b"abc "}, "LossyImageCompressionRatio is not valid"),
        (LOSSY | {"LossyImageCompressionRatio": b"-3"}, "LossyImageCompressionRatio is not valid"),
        (RATIO | {"LossyImageCompressionMethod": b"by Jane "}, "LossyImageCompressionMethod is not valid"),
        (RATIO | {"LossyImageCompressionMethod": b""}, None),
        ({"PatientName": b"Doe^Jane\\Doe^John "}, "PatientName is not valid in the source and was repaired"),
        ({"PatientName": b"Doe^Ja\x07ne "}, "PatientName is not valid in the source and was repaired"),
        ({"PatientName": b"x" * 100}, "PatientName is not valid in the source and was repaired"),
        ({"PatientName": b"a^b^c^d^e^f^"}, "PatientName is not valid in the source and was repaired"),
        ({"PatientID": b"4711\\4712 "}, "PatientID is not valid in the source and was repaired"),
        ({"PatientID": b"47\n11 "}, "PatientID is not valid in the source and was repaired"),
        ({"PatientID": b"4" * 100}, "PatientID is not valid in the source and was repaired"),
        ({"StudyDate": b"20190703\\20190704 "}, "StudyDate is not valid in the source and was left blank"),
        ({"StudyDescription": b"a\nb "}, "StudyDescription is not valid in the source and was left blank"),
        ({"PatientSize": b"abc "}, "PatientSize is not valid in the source and was left blank"),
        ({"PatientIdentityRemoved": b"MAYBE "}, "PatientIdentityRemoved is not valid"),
        (REMOVED | {"DeidentificationMethod": b""}, None),
        ({"SliceThickness": b"-5"}, "no valid SliceThickness"),
        ({"SliceThickness": b"1e30"}, "no valid SliceThickness"),
        ({"ImageOrientationPatient": b"1.02\\0\\0\\0\\0.97\\0 "}, None),
        ({"ImageOrientationPatient": b"1\\0.03\\0\\0\\1\\0"}, None),
        ({"ImageOrientationPatient": b"0\\0\\0\\0\\0\\0 "}, "no valid position, orientation"),
    ],
)
def test_what_is_written_is_valid(
    make_study, measured: Measured, montage, tmp_path: Path, contents, warned, key
) -> None:
    study = stated(make_study(), **contents)
    written = write_results(tmp_path, study.origin, study.masks, measured, montage, anonymise_key=key)
    if warned is None:
        assert written.warnings == ()
    else:
        [warning] = written.warnings
        assert warned in warning
    for path in filter(None, (written.sr, written.seg, written.sc)):
        assert errors_of(path) == []


def test_a_code_that_says_nothing_is_dropped(make_study, measured, tmp_path) -> None:
    study = make_study()
    for header in study.headers:
        header.PatientIdentityRemoved = "YES"
        header.DeidentificationMethodCodeSequence = [Dataset()]
    study.save()
    written = write_results(tmp_path, study.origin, study.masks, measured)
    for one, path in zip(objects_of(written), (written.sr, written.seg), strict=True):
        assert (one.PatientIdentityRemoved, one.DeidentificationMethod) == ("YES", "Not stated in the source")
        assert "DeidentificationMethodCodeSequence" not in one
        assert errors_of(path) == []


def test_of_a_code_value_scheme_and_meaning_are_kept(make_study, measured, tmp_path) -> None:
    study, code = make_study(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113100", "DCM", "Basic Profile"
    code.ContextUID = "1.2.3.99"
    for header in study.headers:
        header.DeidentificationMethodCodeSequence = [code]
    study.save()
    [kept] = pydicom.dcmread(
        write_results(tmp_path, study.origin, study.masks, measured).sr
    ).DeidentificationMethodCodeSequence
    assert [element.value for element in kept] == ["113100", "DCM", "Basic Profile"]


@pytest.mark.parametrize(
    ("keyword", "content", "mended"),
    [
        ("PatientName", b"Doe^Jane\\Doe^John ", "Doe^Jane"),
        ("PatientName", b"Doe^Ja\x07ne ", "Doe^Jane"),
        ("PatientName", b"x" * 100, "x" * 64),
        ("PatientName", b"a^b^c^d^e^f^", "a^b^c^d^e"),
        ("PatientID", b"4711\\4712 ", "4711"),
        ("PatientID", b"4" * 100, "4" * 64),
    ],
)
def test_name_and_id_are_mended(make_study, measured, tmp_path, keyword, content, mended) -> None:
    study = stated(make_study(), **{keyword: content})
    written = write_results(tmp_path, study.origin, study.masks, measured)
    assert [str(one[keyword].value) for one in objects_of(written)] == [mended, mended]


@pytest.mark.parametrize("content", [b"abc def ", TOO_LONG, b"1..2", b"1.2\\1.3 "])
def test_an_image_that_cannot_be_referred_to_is_refused(make_study, measured, tmp_path, content) -> None:
    study = make_study()
    put(study.headers[2], "SOPInstanceUID", content)
    save(study)
    with pytest.raises(ResultsError, match="has no valid SOPInstanceUID"):
        write_results(tmp_path / "out", study.origin, study.masks, measured)
    assert not (tmp_path / "out").exists()


def test_for_a_faulty_uid_one_and_the_same_stands(make_study, measured, tmp_path) -> None:
    study = stated(make_study(), StudyInstanceUID=b"abc def ", SeriesInstanceUID=b"abc def ")
    studies, series = set(), set()
    for run in ("one", "two"):
        seg = pydicom.dcmread(write_results(tmp_path / run, study.origin, study.masks, measured).seg)
        studies.add(seg.StudyInstanceUID)
        series.add(seg.ReferencedSeriesSequence[0].SeriesInstanceUID)
    assert len(studies) == len(series) == 1
    assert all(uid.startswith("2.25.") for uid in studies ^ series)
    assert len(studies ^ series) == 2


@pytest.mark.parametrize("thickness", [b"-5", b"1e30", b"0 "])
def test_the_distance_of_slices_stands_for_an_impossible_thickness(
    make_study, measured, tmp_path, thickness
) -> None:
    study = stated(make_study(), SliceThickness=thickness)
    seg = pydicom.dcmread(write_results(tmp_path, study.origin, study.masks, measured).seg)
    assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 2.5


@pytest.mark.parametrize(
    "content", [b"1.02\\0\\0\\0\\0.97\\0 ", b"1\\0.03\\0\\0\\1\\0", b"0.9998\\0.02\\0\\-0.02\\0.9998\\0 "]
)
def test_directions_become_unit_vectors_at_right_angles(make_study, measured, tmp_path, content) -> None:
    study = stated(make_study(), ImageOrientationPatient=content)
    seg = pydicom.dcmread(write_results(tmp_path, study.origin, study.masks, measured).seg)
    shared = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    written = np.array(shared.ImageOrientationPatient, float).reshape(2, 3)
    assert written @ written.T == pytest.approx(np.eye(2), abs=1e-12)
    source = np.array(content.decode().split("\\"), float).reshape(2, 3)
    assert np.abs(written - source).max() < 0.04


@pytest.mark.parametrize(("step", "placed"), [(1e-5, True), (4e-3, True), (8e-3, False)])
def test_directions_may_drift_as_far_as_the_reader_lets_them(
    make_study, measured, tmp_path, step, placed
) -> None:
    study = make_study()
    for number, header in enumerate(study.headers):
        header.ImageOrientationPatient = [1, 0, step * number, 0, 1, 0]
    study.save()
    written = write_results(tmp_path, study.origin, study.masks, measured)
    assert (written.seg is not None) == placed
    if placed:
        assert errors_of(written.seg) == []
        shared = pydicom.dcmread(written.seg).SharedFunctionalGroupsSequence[0]
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient[2] == pytest.approx(
            2 * step, rel=1e-3
        )


def test_slices_that_lie_side_by_side_are_no_stack(make_study, measured, tmp_path) -> None:
    study = make_study()
    for number, header in enumerate(study.headers):
        header.ImagePositionPatient = [10 * number, -20, 100]
    study.save()
    written = write_results(tmp_path, study.origin, study.masks, measured)
    assert written.seg is None
    assert "the same position along their normal" in written.warnings[0]


@pytest.mark.parametrize(
    ("landmark", "method", "kept"),
    [
        (b"Seen with Jane", b"JANE", ("", None)),
        (b"Sternal notch ", b"ISO_15444_1 ", ("Sternal notch", "ISO_15444_1")),
        (b"STERNAL_NOTCH ", b"ISO_10918_1\\JANE", ("STERNAL_NOTCH", None)),
    ],
)
def test_anonymised_only_the_standard_s_own_terms_stay(
    make_study, measured, tmp_path, landmark, method, kept
) -> None:
    study = stated(
        make_study(), **RATIO, PositionReferenceIndicator=landmark, LossyImageCompressionMethod=method
    )
    plain = write_results(tmp_path / "plain", study.origin, study.masks, measured)
    seg = pydicom.dcmread(plain.seg)
    assert seg.PositionReferenceIndicator == landmark.decode().strip()
    assert "LossyImageCompressionMethod" in seg
    hidden = write_results(tmp_path, study.origin, study.masks, measured, anonymise_key=KEY)
    seg = pydicom.dcmread(hidden.seg)
    assert (seg.PositionReferenceIndicator, seg.get("LossyImageCompressionMethod")) == kept
    assert seg.LossyImageCompression == "01"
    assert errors_of(hidden.seg) == []


def anonymised(study: Study, measured: Measured, folder: Path, key: bytes = KEY) -> Dataset:
    return pydicom.dcmread(write_results(folder, study.origin, study.masks, measured, anonymise_key=key).sr)


def test_one_key_keeps_a_patient_s_studies_together(make_study, measured, tmp_path) -> None:
    study = make_study()
    first, again = (anonymised(study, measured, tmp_path / run) for run in ("first", "again"))
    other = anonymised(stated(study, StudyInstanceUID=b"1.2.3.11"), measured, tmp_path / "other")
    assert first.StudyInstanceUID == again.StudyInstanceUID != other.StudyInstanceUID
    assert first.PatientID == again.PatientID == other.PatientID
    assert first.SOPInstanceUID != again.SOPInstanceUID
    assert first.StudyInstanceUID != STUDY
    assert first.PatientID != PATIENT
    elsewhere = anonymised(study, measured, tmp_path / "elsewhere", b"another key")
    assert elsewhere.PatientID != other.PatientID
    assert elsewhere.StudyInstanceUID != other.StudyInstanceUID


def test_one_key_does_not_make_those_without_an_id_one_patient(make_study, measured, tmp_path) -> None:
    assert anonymised(stated(make_study(), PatientID=b""), measured, tmp_path).PatientID == ""


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """As on a full disk: the system refuses to write more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_no_more_is_no_fault_of_the_sources(make_study, measured, tmp_path) -> None:
    study, folder = make_study(), tmp_path / "out"
    with files_no_longer_than(1000), pytest.raises(GroundglassError) as error:
        write_results(folder, study.origin, study.masks, measured)
    assert type(error.value) is GroundglassError
    assert str(error.value) == f"{folder / 'sr.dcm'}: cannot be written (File too large)"
    assert list(folder.iterdir()) == []


def test_masks_and_pictures_that_do_not_fit_are_the_caller_s(make_study, measured, montage, tmp_path) -> None:
    study = make_study()
    for masks, picture in ((study.masks[1:], montage), (study.masks, montage[..., 0])):
        with pytest.raises(ResultsError):
            write_results(tmp_path / "out", study.origin, masks, measured, picture)
    assert not (tmp_path / "out").exists()
