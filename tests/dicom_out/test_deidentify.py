"""De-identification of any dataset by the Basic Profile of PS3.15."""

import re
from importlib.resources import files

import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage

from groundglass.dicom_out.deidentify import deidentify, new_uid

KEY = b"a key"


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def treated(clean: tuple[str, ...] = (), key: bytes = KEY, **values: object) -> Dataset:
    dataset = item(**values)
    deidentify(dataset, key, clean=clean)
    return dataset


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientAge", "059Y"),
        ("StudyDescription", "Chest of Jane"),
        ("SeriesDescription", "For Dr House"),
        ("IssuerOfPatientID", "Princeton"),
        ("InstitutionAddress", "1 Road"),
        ("RequestAttributesSequence", [item(StudyInstanceUID="1.2")]),
    ],
)
def test_x_removes(keyword, value) -> None:
    assert keyword not in treated(**{keyword: value})


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "Doe^Jane"),
        ("PatientBirthDate", "19600229"),
        ("AccessionNumber", "99"),
        ("StudyDate", "20190703"),
        ("AcquisitionDate", "20190703"),
        ("ReferencedStudySequence", [item(ReferencedSOPInstanceUID="1.2")]),
    ],
)
def test_z_empties(keyword, value) -> None:
    assert not treated(**{keyword: value})[keyword].value


@pytest.mark.parametrize(
    ("keyword", "value", "dummy"),
    [
        ("ContentDate", "20190703", "19000101"),
        ("ContentTime", "101112", "000000"),
        ("AcquisitionDateTime", "20190703101112", "19000101000000"),
        ("StationName", "CT7", "ANONYMOUS"),
        ("DeviceSerialNumber", "4711", "ANONYMOUS"),
    ],
)
def test_d_puts_a_dummy(keyword, value, dummy) -> None:
    assert str(treated(**{keyword: value})[keyword].value) == dummy


def test_what_the_profile_does_not_name_stays() -> None:
    dataset = treated(Modality="CT", PixelSpacing=[1, 2], ImagePositionPatient=[1, 2, 3], PixelData=b"ab")
    assert (dataset.Modality, dataset.PixelSpacing, dataset.PixelData) == ("CT", [1, 2], b"ab")


def test_uids_are_replaced_alike_everywhere() -> None:
    dataset = treated(
        StudyInstanceUID="1.2.3",
        SOPClassUID=CTImageStorage,
        IrradiationEventUID=["1.2.3", "1.2.4"],
        SourceImageSequence=[
            item(
                ReferencedSOPClassUID=CTImageStorage,
                ReferencedSOPInstanceUID="1.2.3",
                PurposeOfReferenceCodeSequence=[item(CodeValue="1")],
            )
        ],
    )
    new = dataset.StudyInstanceUID
    assert re.fullmatch(r"2\.25\.\d{1,39}", new)
    assert dataset.SOPClassUID == CTImageStorage
    assert list(dataset.IrradiationEventUID) == [new, new_uid("1.2.4", KEY)]
    assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == new
    assert dataset.SourceImageSequence[0].ReferencedSOPClassUID == CTImageStorage


def test_another_key_gives_other_uids_and_pseudonyms() -> None:
    one, same, other = (
        treated(key=key, StudyInstanceUID="1.2.3", PatientID="4711") for key in (KEY, KEY, b"another")
    )
    assert (one.StudyInstanceUID, one.PatientID) == (same.StudyInstanceUID, same.PatientID)
    assert one.StudyInstanceUID != other.StudyInstanceUID
    assert one.PatientID != other.PatientID
    assert re.fullmatch("[0-9A-F]{16}", one.PatientID)


def test_an_item_in_two_places_is_treated_once() -> None:
    shared = item(ReferencedSOPInstanceUID="1.2.3")
    dataset = treated(ReferencedImageSequence=[shared], SourceImageSequence=[shared])
    assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == new_uid("1.2.3", KEY)


def test_private_attributes_curves_and_overlays_are_removed_at_any_depth() -> None:
    inner, dataset = item(Modality="CT"), Dataset()
    for one in (inner, dataset):
        block = one.private_block(0x0009, "MAKER", create=True)
        block.add_new(1, "LO", "Jane")
    dataset.add_new((0x5004, 0x3000), "OW", b"ab")
    dataset.add_new((0x6002, 0x3000), "OW", b"ab")
    dataset.add_new((0x6002, 0x0010), "US", 4)
    dataset.AnatomicRegionSequence = Sequence([inner])
    deidentify(dataset, KEY)
    assert [int(element.tag) for element in dataset if element.tag.group in (9, 0x5004, 0x6002)] == [
        0x60020010
    ]
    assert [element.keyword for element in dataset.AnatomicRegionSequence[0]] == ["Modality"]


def test_free_text_of_a_report_is_replaced_unless_the_caller_wrote_it() -> None:
    content = {"ValueType": "TEXT", "TextValue": "Jane has a cold", "UID": "1.2.3"}
    [dummy] = treated(ContentSequence=[item(**content)]).ContentSequence
    assert (dummy.TextValue, dummy.UID) == ("ANONYMOUS", new_uid("1.2.3", KEY))
    kept = treated(("ContentSequence",), ContentSequence=[item(**content)])
    assert kept.ContentSequence[0].TextValue == "Jane has a cold"
    assert new_uid("1.2.3", KEY) == kept.ContentSequence[0].UID
    assert [code.CodeValue for code in kept.DeidentificationMethodCodeSequence] == ["113100", "113104"]


def test_it_says_what_was_done() -> None:
    dataset = treated(("SeriesDescription",), SeriesDescription="Own words", DeidentificationMethod="by hand")
    assert dataset.PatientIdentityRemoved == "YES"
    assert dataset.LongitudinalTemporalInformationModified == "REMOVED"
    assert dataset.SeriesDescription == "Own words"
    assert [code.CodeValue for code in dataset.DeidentificationMethodCodeSequence] == ["113100", "113105"]
    assert list(dataset.DeidentificationMethod) == [
        "Basic Application Confidentiality Profile",
        "Clean Descriptors Option",
    ]


def test_the_file_s_own_uid_changes_too() -> None:
    dataset = item(SOPInstanceUID="1.2.3")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    deidentify(dataset, KEY)
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID == new_uid("1.2.3", KEY)


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_every_action_of_the_table_can_be_carried_out() -> None:
    """Each attribute once, with a value of its kind."""
    text = (files("groundglass.dicom_out") / "basic_profile.tsv").read_text()
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    assert len(rows) > 600
    kinds = {
        "SQ": Sequence(),
        "UI": "1.2.3",
        "DA": "20190703",
        "TM": "101112",
        "DT": "20190703",
        "AS": "059Y",
    }
    kinds |= {"DS": "1", "IS": "1", "OB": b"ab", "UN": b"ab", "OB or OW": b"ab"}
    kinds |= dict.fromkeys(("FD", "FL", "US", "UL", "SS", "SL", "UV", "SV"), 1)
    dataset = Dataset()
    for tag, _ in rows:
        number = int(tag.replace(",", "").replace("x", "0"), 16)
        if (
            number >> 16 not in (0, 2)
            and "x" not in tag
            and number != tag_for_keyword("DataSetTrailingPadding")
        ):
            try:
                kind = dictionary_VR(number)
            except KeyError:
                kind = "LO"
            dataset.add_new(number, kind[:2], kinds.get(kind, "Jane"))
    deidentify(dataset, KEY)
    left = [element.keyword for element in dataset if "Jane" in str(element.value)]
    assert left == []
    assert [element.keyword for element in dataset if element.VR == "UI" and element.value == "1.2.3"] == []
    assert [
        element.keyword for element in dataset if element.VR == "DA" and element.value == "20190703"
    ] == []
