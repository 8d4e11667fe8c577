"""The objects that are written: valid, of the right patient, and with the measured values."""

import logging
import os
import shutil
import subprocess
import warnings
import zipfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from ct_series import BIRTH, FRAME, NAME, PATIENT, SERIES, STUDY, errors_of
from pydicom.dataset import Dataset

from groundglass.bundle.facts import RESEARCH_USE
from groundglass.dicom_out import write_results
from groundglass.errors import GroundglassError, ScanError
from groundglass.scan.volume import Instance, Member, Origin
from groundglass.segment.extent import DiseaseExtent
from groundglass.segment.shares import CONSOLIDATION

NOON = datetime(2021, 5, 6, 12, 0, 0)
TURNS = ("transposed", "rows_flipped", "columns_flipped")


def planes_of(seg: Dataset, study) -> np.ndarray:
    """The label planes that a Segmentation holds, by its references to the source's images."""
    labels = np.zeros(study.masks.shape, np.uint8)
    numbers = {
        (one.sop_instance, one.frame if len(study.headers) == 1 else 0): number
        for number, one in enumerate(study.origin.instances)
    }
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, item in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source = item.DerivationImageSequence[0].SourceImageSequence[0]
        key = (source.ReferencedSOPInstanceUID, int(source.get("ReferencedFrameNumber", 1)) - 1)
        segment = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        labels[numbers[key]] |= study.origin.upright(frame * np.uint8((1, 2, 4)[segment - 1]))
    return labels


def numbers_of(path: Path) -> dict[str, dict[str, float]]:
    """Each group's measurements in a report, by the group's tracking identifier."""
    content = hd.sr.srread(path).content
    groups = [*content.get_image_measurement_groups(), *content.get_volumetric_roi_measurement_groups()]
    return {
        group.tracking_identifier: {one.name.value: float(one.value) for one in group.get_measurements()}
        for group in groups
    }


@pytest.mark.parametrize("anonymise", [False, True])
@pytest.mark.parametrize("form", ["classic", "enhanced"])
def test_objects_are_valid(make_study, measured, montage, tmp_path, form, anonymise) -> None:
    study = make_study(form)
    written = write_results(
        tmp_path / "out",
        study.origin,
        study.masks,
        measured,
        montage,
        anonymise_key=b"key" if anonymise else None,
    )
    assert written.warnings == ()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["sc.dcm", "seg.dcm", "sr.dcm"]
    for path in (written.sr, written.seg, written.sc):
        assert errors_of(path) == []


@pytest.mark.parametrize("tool", ["dsrdump", "dcmdump"])
def test_dcmtk_opens_them(make_study, measured, montage, tmp_path, tool) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not there: apt-get install dcmtk")
    study = make_study()
    written = write_results(tmp_path, study.origin, study.masks, measured, montage)
    for path in (written.sr,) if tool == "dsrdump" else (written.sr, written.seg, written.sc):
        run = subprocess.run([tool, "-q", str(path)], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        assert "Right lung" in run.stdout or path == written.sc


@pytest.mark.parametrize("form", ["classic", "enhanced"])
@pytest.mark.parametrize("turned", [(), TURNS[:1], TURNS[1:2], TURNS[2:], TURNS])
def test_segments_equal_the_masks(make_study, measured, tmp_path, form, turned) -> None:
    study = make_study(form, **dict.fromkeys(turned, True))
    seg = hd.seg.segread(write_results(tmp_path, study.origin, study.masks, measured).seg)
    assert (seg.Rows, seg.Columns) == (9, 13)
    assert np.array_equal(planes_of(seg, study), study.masks)
    # The two slices at the ends are empty, and a segment that is not in a slice has no frame there.
    assert seg.NumberOfFrames == 3 + 3 + 2


@pytest.mark.parametrize("shear", [0.0, 0.6])
@pytest.mark.parametrize("form", ["classic", "enhanced"])
def test_frames_lie_where_the_source_lies(make_study, measured, tmp_path, form, shear) -> None:
    study = make_study(form, shear)
    seg = hd.seg.segread(write_results(tmp_path, study.origin, study.masks, measured).seg)
    shared = seg.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.75, 0.5]
    assert shared.PixelMeasuresSequence[0].SliceThickness == 2.5
    assert seg.FrameOfReferenceUID == FRAME
    places = {
        tuple(item.PlanePositionSequence[0].ImagePositionPatient)
        for item in seg.PerFrameFunctionalGroupsSequence
    }
    assert places == {(-10.0, -20.0 + shear * number, 100.0 - 2.5 * number) for number in (1, 2, 3)}
    for item in seg.PerFrameFunctionalGroupsSequence:
        assert item.DerivationImageSequence[0].SourceImageSequence[0].SpatialLocationsPreserved == "YES"


def test_segmentation_refers_to_every_source_image(make_study, measured, tmp_path) -> None:
    study = make_study()
    seg = pydicom.dcmread(write_results(tmp_path, study.origin, study.masks, measured).seg)
    uids = [header.SOPInstanceUID for header in study.headers]
    assert [one.ReferencedSOPInstanceUID for one in seg.SourceImageSequence] == uids
    [series] = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == SERIES
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence] == uids


def test_segments_say_what_they_are_and_who_made_them(make_study, measured, tmp_path) -> None:
    study = make_study()
    seg = pydicom.dcmread(write_results(tmp_path, study.origin, study.masks, measured).seg)
    assert [one.SegmentedPropertyTypeCodeSequence[0].CodeValue for one in seg.SegmentSequence] == [
        "3341006",
        "44029006",
        "52988006",
    ]
    assert seg.SegmentsOverlap == "YES"
    assert "(research use)" in seg.SeriesDescription
    algorithm = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmName == "Groundglass"
    assert "ab" * 32 in algorithm.AlgorithmParameters


def test_lungs_without_lesions_do_not_overlap(make_study, measured, tmp_path) -> None:
    study = make_study()
    seg = hd.seg.segread(write_results(tmp_path, study.origin, study.masks & 3, measured).seg)
    assert seg.SegmentsOverlap == "NO"
    assert np.array_equal(planes_of(seg, study), study.masks & 3)


def test_a_single_slice(make_study, measured, tmp_path) -> None:
    study = make_study()
    origin = Origin(study.origin.instances[2:3])
    written = write_results(tmp_path, origin, study.masks[2:3], measured)
    frames = pydicom.dcmread(written.seg).pixel_array
    assert np.array_equal(frames, [(study.masks[2] & 3) == 1, study.masks[2] == 2, study.masks[2] > 3])
    assert errors_of(written.seg) == []


def test_report_says_what_was_measured(make_study, measured, tmp_path) -> None:
    study = make_study()
    found = numbers_of(write_results(tmp_path, study.origin, study.masks, measured).sr)
    expected = {
        "Groundglass answer": {
            "probability": 0.8734,
            "lr-differential": 2.5,
            "lr-screening": 34.0,
            "118565006": 4546.185956789,
            "slices-used": 5,
        },
        "Groundglass right lung": {
            "118565006": 2512.0625,
            "lesion-volume": 120.5,
            "lesion-share": 100 * 120.5 / 2512.0625,
        },
        "Groundglass left lung": {"118565006": 2034.123456789, "lesion-volume": 0, "lesion-share": 0},
        "Groundglass ground-glass opacity or consolidation": {
            "118565006": 120.5,
            "lesion-share": 100 * 120.5 / 4546.185956789,
        },
    }
    assert found.keys() == expected.keys()
    for name, numbers in expected.items():
        assert found[name] == pytest.approx(numbers, rel=1e-12)


@pytest.mark.parametrize("anonymise", [False, True])
def test_lesion_types_and_zones(make_study, measured, tmp_path, anonymise) -> None:
    study = make_study()
    labels = study.masks.copy()
    labels[2, 2, 2:4] |= CONSOLIDATION
    zone = DiseaseExtent(800.0, 80.0, 20.0, unit_ml=1.0)
    extent = {region: replace(one, consolidation=one.lesion / 4) for region, one in measured.extent.items()}
    typed = replace(measured, extent=extent | {"right_upper": zone})
    key = b"key" if anonymise else None
    written = write_results(tmp_path, study.origin, labels, typed, anonymise_key=key)
    assert errors_of(written.seg) == errors_of(written.sr) == []
    seg = hd.seg.segread(written.seg)
    codes = [one.SegmentedPropertyTypeCodeSequence[0] for one in seg.SegmentSequence]
    assert [(one.CodingSchemeDesignator, one.CodeValue) for one in codes[2:]] == [
        ("DCM", "112120"),
        ("SCT", "95436008"),
    ]
    voxels = [0] * 5
    for frame, item in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        voxels[item.SegmentIdentificationSequence[0].ReferencedSegmentNumber] += int(frame.sum())
    solid = np.count_nonzero(labels & CONSOLIDATION)
    assert voxels[3:] == [np.count_nonzero(labels & 4) - solid, solid]
    assert solid == 2
    found = numbers_of(written.sr)
    assert found["Groundglass answer"] == pytest.approx(
        {
            "probability": 0.8734,
            "lr-differential": 2.5,
            "lr-screening": 34.0,
            "118565006": 4546.185956789,
            "lesion-volume": 120.5,
            "lesion-share": 100 * 120.5 / 4546.185956789,
            "slices-used": 5,
        }
    )
    assert found["Groundglass consolidation"]["118565006"] == 120.5 / 4
    assert found["Groundglass right lung ground-glass opacity"]["118565006"] == 120.5 * 0.75
    assert found["Groundglass right upper third"] == {
        "118565006": 800,
        "lesion-volume": 80,
        "lesion-share": 10,
    }
    assert found["Groundglass right upper third consolidation"] == {"118565006": 20, "finding-share": 2.5}
    groups = hd.sr.srread(written.sr).content.get_image_measurement_groups()
    [group] = [one for one in groups if one.tracking_identifier.endswith("third consolidation")]
    [site] = group.finding_sites
    assert (group.finding_type.value, site.value.value) == ("95436008", "281392002")
    assert site.laterality.value == "24028007"


def test_report_gives_the_answer_in_words_and_codes(make_study, measured, tmp_path) -> None:
    study = make_study()
    report = hd.sr.srread(write_results(tmp_path, study.origin, study.masks, measured).sr)
    [answer] = report.content.get_image_measurement_groups()
    [evaluation] = [one for one in answer.get_qualitative_evaluations() if one.name.value == "840539006"]
    assert evaluation.value.meaning == "Detected"
    texts = {
        one.ConceptNameCodeSequence[0].CodeMeaning: one.TextValue
        for one in walk_items(report)
        if one.get("ValueType") == "TEXT"
    }
    assert texts["Verdict of the detector"] == "covid"
    assert texts["Severity"] == "moderate"
    assert texts["Source of the severity bands"] == measured.severity_source
    assert texts["Comment"] == RESEARCH_USE
    assert texts["Likelihood ratio of COVID-19"] == "34 (9 to 99) for screening, not validated"
    assert texts["Algorithm Name"] == texts["Device Observer Name"] == "Groundglass"
    parameters = {one.TextValue for one in walk_items(report) if is_named(one, "Algorithm Parameters")}
    assert parameters == {
        "bundle=covid-ct-lite0",
        f"bundle graph sha256={'ab' * 32}",
        "segmenter=lungs-lite0",
        f"segmenter graph sha256={'cd' * 32}",
    }


def walk_items(dataset: Dataset):
    for item in dataset.get("ContentSequence", []):
        yield item
        yield from walk_items(item)


def is_named(item: Dataset, meaning: str) -> bool:
    return "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeMeaning == meaning


@pytest.mark.parametrize(
    ("verdict", "meanings"),
    [
        ("not covid", ["Not detected"]),
        ("uncertain", ["Inconclusive"]),
        ("not a chest CT", ["Not a chest CT"]),
        ("bacterial pneumonia", []),
    ],
)
def test_each_verdict(make_study, measured, tmp_path, verdict, meanings) -> None:
    study = make_study()
    written = write_results(tmp_path, study.origin, None, replace(measured, verdict=verdict))
    coded = [
        one.ConceptCodeSequence[0].CodeMeaning
        for one in walk_items(pydicom.dcmread(written.sr))
        if is_named(one, "COVID-19")
    ]
    assert coded == meanings
    assert any(one.get("TextValue") == verdict for one in walk_items(pydicom.dcmread(written.sr)))
    assert errors_of(written.sr) == []


def test_what_is_not_known_is_left_out(make_study, measured, tmp_path) -> None:
    study = make_study()
    nothing = dict.fromkeys(measured.extent, DiseaseExtent(lung=12.0, lesion=None))
    unknown = replace(measured, probability=None, severity="", extent=nothing, likelihood_ratios=())
    written = write_results(tmp_path, study.origin, study.masks, unknown)
    found = numbers_of(written.sr)
    assert found["Groundglass answer"] == {"slices-used": 5}
    assert found["Groundglass right lung"] == {}
    assert errors_of(written.sr) == []


def test_report_refers_to_the_segments_and_the_source(make_study, measured, tmp_path) -> None:
    study = make_study()
    written = write_results(tmp_path, study.origin, study.masks, measured)
    seg = pydicom.dcmread(written.seg)
    report = hd.sr.srread(written.sr)
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.referenced_segment.referenced_segment_numbers for group in groups] == [[1], [2], [3]]
    assert {group.referenced_segment.referenced_sop_instance_uid for group in groups} == {seg.SOPInstanceUID}
    assert [group.tracking_uid for group in groups] == [one.TrackingUID for one in seg.SegmentSequence]
    [evidence] = report.CurrentRequestedProcedureEvidenceSequence
    assert evidence.StudyInstanceUID == STUDY
    named = {
        (series.SeriesInstanceUID, one.ReferencedSOPInstanceUID)
        for series in evidence.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    images = {(SERIES, header.SOPInstanceUID) for header in study.headers}
    assert named == images | {(seg.SeriesInstanceUID, seg.SOPInstanceUID)}


def test_picture_is_the_montage(make_study, measured, montage, tmp_path) -> None:
    study = make_study()
    picture = pydicom.dcmread(write_results(tmp_path, study.origin, study.masks, measured, montage).sc)
    assert np.array_equal(picture.pixel_array, montage)
    assert picture.BurnedInAnnotation == "NO"


@pytest.mark.parametrize("form", ["classic", "enhanced"])
def test_patient_and_study_are_the_source_s(make_study, measured, montage, tmp_path, form) -> None:
    study = make_study(form)
    written = write_results(tmp_path, study.origin, study.masks, measured, montage)
    objects = [pydicom.dcmread(path) for path in (written.sr, written.seg, written.sc)]
    for one in objects:
        assert (one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex) == (
            NAME,
            PATIENT,
            BIRTH,
            "F",
        )
        assert (one.StudyInstanceUID, one.StudyID, one.AccessionNumber) == (STUDY, "S-77", "ACC-99")
        assert one.Manufacturer == "Groundglass"
    assert [one.SeriesNumber for one in objects] == [9001, 9002, 9003]
    new = {one.SeriesInstanceUID for one in objects} | {one.SOPInstanceUID for one in objects}
    assert len(new) == 6
    assert SERIES not in new


@pytest.mark.parametrize(
    ("name", "charset"),
    [("Müller^Jörg", "ISO_IR 100"), ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"])],
)
def test_names_of_any_script(make_study, measured, tmp_path, name, charset) -> None:
    study = make_study()
    for header in study.headers:
        header.SpecificCharacterSet, header.PatientName = charset, name
    study.save()
    written = write_results(tmp_path, study.origin, study.masks, measured)
    for path in (written.sr, written.seg):
        assert str(pydicom.dcmread(path).PatientName) == name


def test_same_seed_and_time_give_the_same_bytes(make_study, measured, montage, tmp_path) -> None:
    study = make_study()
    for anonymise in (False, True):
        runs = [
            write_results(
                tmp_path / str(number),
                study.origin,
                study.masks,
                measured,
                montage,
                anonymise_key=b"key" if anonymise else None,
                seed=seed,
                when=NOON,
            )
            for number, seed in enumerate(("one", "one", "two"))
        ]
        for name in ("sr", "seg", "sc"):
            first, again, other = (getattr(run, name).read_bytes() for run in runs)
            assert first == again
            assert first != other


def test_without_a_seed_each_run_has_its_own_uids(make_study, measured, tmp_path) -> None:
    study = make_study()
    uids = {
        pydicom.dcmread(
            write_results(tmp_path, study.origin, study.masks, measured, when=NOON).seg
        ).SOPInstanceUID
        for _ in range(2)
    }
    assert len(uids) == 2


@pytest.mark.parametrize("form", ["classic", "enhanced"])
def test_anonymised_objects_tell_nothing(make_study, measured, montage, tmp_path, form) -> None:
    study = make_study(form)
    written = write_results(
        tmp_path, study.origin, study.masks, measured, montage, anonymise_key=b"key", seed="a", when=NOON
    )
    plain = write_results(
        tmp_path / "plain", study.origin, study.masks, measured, montage, seed="a", when=NOON
    )
    secrets = [
        NAME,
        "Jane",
        PATIENT,
        BIRTH,
        "059Y",
        "20190703",
        "101112",
        "S-77",
        "ACC-99",
        "House",
        "20210506",
    ]
    secrets += [STUDY, SERIES, FRAME, *(header.SOPInstanceUID for header in study.headers)]
    own = [pydicom.dcmread(path) for path in (plain.sr, plain.seg, plain.sc)]
    secrets += [uid for one in own for uid in (one.SOPInstanceUID, one.SeriesInstanceUID)]
    for path in (written.sr, written.seg, written.sc):
        content = path.read_bytes()
        assert [secret for secret in secrets if secret.encode() in content] == []
        one = pydicom.dcmread(path)
        assert one.PatientIdentityRemoved == "YES"
        assert "113100" in [code.CodeValue for code in one.DeidentificationMethodCodeSequence]
        assert "(research use)" in one.SeriesDescription


def test_anonymised_objects_still_refer_to_each_other(make_study, measured, montage, tmp_path) -> None:
    study = make_study()
    written = write_results(tmp_path, study.origin, study.masks, measured, montage, anonymise_key=b"key")
    sr, seg, sc = (pydicom.dcmread(path) for path in (written.sr, written.seg, written.sc))
    assert len({one.StudyInstanceUID for one in (sr, seg, sc)}) == 1
    assert len({one.PatientID for one in (sr, seg, sc)}) == 1
    assert sr.DeidentificationMethodCodeSequence == seg.DeidentificationMethodCodeSequence
    assert seg.file_meta.MediaStorageSOPInstanceUID == seg.SOPInstanceUID
    groups = hd.sr.srread(written.sr).content.get_volumetric_roi_measurement_groups()
    assert {group.referenced_segment.referenced_sop_instance_uid for group in groups} == {seg.SOPInstanceUID}
    assert [group.tracking_uid for group in groups] == [one.TrackingUID for one in seg.SegmentSequence]
    # One source image has one new UID wherever it stands, also in the frames of several segments.
    listed = {one.ReferencedSOPInstanceUID for one in seg.SourceImageSequence}
    for item in seg.PerFrameFunctionalGroupsSequence:
        assert item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID in listed
    evidence = sr.CurrentRequestedProcedureEvidenceSequence[0]
    assert evidence.StudyInstanceUID == sr.StudyInstanceUID
    named = {one.ReferencedSOPInstanceUID for one in walk_references(evidence)}
    assert named == listed | {seg.SOPInstanceUID}
    assert numbers_of(written.sr)["Groundglass answer"]["probability"] == pytest.approx(0.8734)


def walk_references(evidence: Dataset):
    for series in evidence.ReferencedSeriesSequence:
        yield from series.ReferencedSOPSequence


def test_source_in_a_zip(make_study, measured, tmp_path) -> None:
    study = make_study()
    archive = tmp_path / "scan.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for instance in study.origin.instances:
            packed.write(instance.member.path, instance.member.path.name)
    inside = tuple(
        Instance(Member(archive, one.member.path.name), one.sop_instance) for one in study.origin.instances
    )
    seg = hd.seg.segread(write_results(tmp_path, Origin(inside), study.masks, measured).seg)
    assert np.array_equal(planes_of(seg, study), study.masks)


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID"])
def test_several_patients_or_studies_are_refused(make_study, measured, tmp_path, keyword) -> None:
    study = make_study()
    setattr(study.headers[3], keyword, "1.9.9")
    study.save()
    with pytest.raises(GroundglassError, match=r"name several (patients|studies)") as error:
        write_results(tmp_path / "out", study.origin, study.masks, measured)
    assert PATIENT not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_masks_of_another_size_are_refused(make_study, measured, tmp_path) -> None:
    study = make_study()
    for masks in (study.masks[1:], study.masks[:, :, 1:]):
        with pytest.raises(GroundglassError, match="do not fit the 5 source images, of 9 x 13"):
            write_results(tmp_path, study.origin, masks, measured)


def test_a_montage_of_another_kind_is_refused(make_study, measured, montage, tmp_path) -> None:
    study = make_study()
    with pytest.raises(GroundglassError, match="uint8 RGB"):
        write_results(tmp_path, study.origin, study.masks, measured, montage[..., 0])


def test_a_source_that_is_gone_is_named(make_study, measured, tmp_path) -> None:
    study = make_study()
    study.origin.instances[1].member.path.unlink()
    with pytest.raises(ScanError, match=r"3\.dcm: this file no longer exists"):
        write_results(tmp_path, study.origin, study.masks, measured)


def test_without_an_instance_uid_nothing_is_written(make_study, measured, tmp_path) -> None:
    study = make_study()
    path = study.origin.instances[0].member.path
    del study.headers[0].SOPInstanceUID
    study.headers[0].file_meta.pop("MediaStorageSOPInstanceUID", None)
    study.headers[0].save_as(path)
    nameless = (Instance(Member(path), ""), *study.origin.instances[1:])
    with pytest.raises(GroundglassError, match="has no valid SOPInstanceUID"):
        write_results(tmp_path, Origin(nameless), study.masks, measured)


def _no_frame_of_reference(headers: list[Dataset]) -> None:
    for header in headers:
        del header.FrameOfReferenceUID


def _two_frames_of_reference(headers: list[Dataset]) -> None:
    headers[0].FrameOfReferenceUID = "1.2.3.31"


def _no_position(headers: list[Dataset]) -> None:
    del headers[1].ImagePositionPatient


def _same_position(headers: list[Dataset]) -> None:
    headers[1].ImagePositionPatient = headers[0].ImagePositionPatient


def _other_orientation(headers: list[Dataset]) -> None:
    headers[1].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_no_frame_of_reference, "no valid FrameOfReferenceUID"),
        (_two_frames_of_reference, "several frames of reference"),
        (_no_position, "no valid position"),
        (_same_position, "the same position"),
        (_other_orientation, "differ in size, orientation"),
    ],
)
def test_without_a_place_there_is_a_report_but_no_segmentation(
    make_study, measured, montage, tmp_path, spoil, reason
) -> None:
    study = make_study()
    spoil(study.headers)
    study.save()
    written = write_results(tmp_path / "out", study.origin, study.masks, measured, montage)
    assert written.seg is None
    assert not (tmp_path / "out" / "seg.dcm").exists()
    [warning] = written.warnings
    assert reason in warning
    assert numbers_of(written.sr)["Groundglass right lung"]["118565006"] == 2512.0625
    assert hd.sr.srread(written.sr).content.get_volumetric_roi_measurement_groups() == []
    assert errors_of(written.sr) == errors_of(written.sc) == []


def test_a_header_that_says_next_to_nothing(make_study, measured, montage, tmp_path) -> None:
    study = make_study()
    keep = (
        "SOPInstanceUID",
        "SOPClassUID",
        "Rows",
        "Columns",
        "ImagePositionPatient",
        "ImageOrientationPatient",
    )
    for header in study.headers:
        for element in list(header):
            if element.keyword not in (*keep, "PixelSpacing", "FrameOfReferenceUID"):
                del header[element.tag]
    study.save()
    written = write_results(tmp_path, study.origin, study.masks, measured, montage)
    assert [warning.split(":")[0] for warning in written.warnings] == [
        "the source has no SeriesInstanceUID",
        "the source has no StudyInstanceUID",
        "the source states no valid SliceThickness",
    ]
    shared = pydicom.dcmread(written.seg).SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].SliceThickness == 2.5
    for path in (written.sr, written.seg, written.sc):
        assert pydicom.dcmread(path).StudyInstanceUID.startswith("2.25.")
        assert errors_of(path) == []


def test_a_faulty_header_is_mended_without_a_word_about_the_patient(
    make_study, measured, montage, tmp_path, caplog, recwarn
) -> None:
    study = make_study()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for header in study.headers:
            header.PatientName = "Jane Doe Without Carets"
            header.PatientSex, header.PatientBirthDate, header.StudyDate = "W", "29.2.1960", "20191399"
        study.save()
    recwarn.clear()
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        written = write_results(tmp_path, study.origin, study.masks, measured, montage)
    assert caplog.text == ""
    assert not recwarn.list
    assert sorted(warning.split(" ")[0] for warning in written.warnings) == [
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
    ]
    assert "1960" not in " ".join(written.warnings)
    for path in (written.sr, written.seg, written.sc):
        assert pydicom.dcmread(path).PatientName == "Jane Doe Without Carets"
        assert errors_of(path) == []


@pytest.mark.parametrize("name", ["highdicom", "pydicom"])
def test_the_libraries_speak_again_afterwards(make_study, measured, tmp_path, name) -> None:
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    try:
        study = make_study()
        write_results(tmp_path, study.origin, study.masks, measured)
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("empty", [True, False])
def test_without_masks_there_is_no_segmentation(make_study, measured, tmp_path, empty) -> None:
    study = make_study()
    written = write_results(tmp_path, study.origin, study.masks * 0 if empty else None, measured)
    assert (written.seg, written.sc) == (None, None)
    assert written.warnings == ("no DICOM segmentation was written: there is no mask",)


def test_lossy_compression_is_passed_on(make_study, measured, tmp_path) -> None:
    study = make_study()
    for header in study.headers:
        header.LossyImageCompression, header.LossyImageCompressionRatio = "01", "9.5"
        header.LossyImageCompressionMethod = "ISO_15444_1"
    study.save()
    written = write_results(tmp_path, study.origin, study.masks, measured)
    seg = pydicom.dcmread(written.seg)
    assert (seg.LossyImageCompression, seg.LossyImageCompressionRatio) == ("01", 9.5)
    assert errors_of(written.seg) == []


def test_a_real_series(measured, tmp_path) -> None:
    folder = Path(os.environ.get("GROUNDGLASS_MIRROR", "")) / "dicom" / "MIDRC-RICORD-1A-419639-001012"
    if not os.environ.get("GROUNDGLASS_MIRROR") or not folder.is_dir():
        pytest.skip("GROUNDGLASS_MIRROR names no folder that holds the RICORD series")
    paths = sorted(folder.glob("*.dcm"), reverse=True)
    origin = Origin(tuple(Instance(Member(path), "") for path in paths))
    masks = np.zeros((len(paths), 512, 512), np.uint8)
    masks[10:100, 100:400, 80:230] = 1
    masks[10:100, 100:400, 280:420] = 2
    masks[40:60, 300:380, 100:200] |= 4
    written = write_results(tmp_path, origin, masks, measured, anonymise_key=b"key")
    assert errors_of(written.sr) == errors_of(written.seg) == []
    seg = pydicom.dcmread(written.seg)
    assert seg.NumberOfFrames == 90 + 90 + 20
    assert seg.pixel_array.sum(axis=(1, 2)).tolist() == [300 * 150] * 90 + [300 * 140] * 90 + [80 * 100] * 20
    assert b"RICORD" not in written.sr.read_bytes() + written.seg.read_bytes()
