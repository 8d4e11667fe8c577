"""A small series as DICOM in two forms, masks for it, and a check of what is written."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

from groundglass.scan.volume import Instance, Member, Origin

SLICES, ROWS, COLUMNS = 5, 9, 13
NAME, PATIENT, BIRTH = "Doe^Jane", "HOSPITAL-4711", "19600229"
STUDY, SERIES, FRAME = "1.2.3.10", "1.2.3.20", "1.2.3.30"


@dataclass
class Study:
    """Source files, and how a volume was read from them."""

    origin: Origin
    headers: list[Dataset]
    masks: NDArray[np.uint8]

    def save(self) -> None:
        """Write the headers to the files again."""
        members = dict.fromkeys(instance.member for instance in self.origin.instances)
        for header, member in zip(self.headers, members, strict=True):
            header.save_as(member.path, enforce_file_format=True)


def _header(number: int) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SpecificCharacterSet = "ISO_IR 100"
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, f"1.2.3.40.{number}"
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = STUDY, SERIES, FRAME
    header.PatientName, header.PatientID, header.PatientBirthDate, header.PatientSex = (
        NAME,
        PATIENT,
        BIRTH,
        "F",
    )
    header.PatientAge = "059Y"
    header.StudyDate, header.StudyTime, header.StudyID = "20190703", "101112", "S-77"
    header.AccessionNumber, header.ReferringPhysicianName = "ACC-99", "House^Gregory"
    header.StudyDescription, header.Modality = "Chest of Jane", "CT"
    header.Manufacturer, header.InstitutionName = "Scanner maker", "Princeton"
    header.Rows, header.Columns = ROWS, COLUMNS
    return header


def _position(number: int, shear: float) -> list[float]:
    """The slices are numbered from the head, as most scanners do; a gantry's tilt shears the stack."""
    return [-10.0, -20.0 + shear * number, 100.0 - 2.5 * number]


def classic(folder: Path, shear: float = 0.0) -> tuple[list[Dataset], list[Instance]]:
    headers, instances = [], []
    for number in reversed(range(SLICES)):
        header = _header(number)
        header.ImagePositionPatient = _position(number, shear)
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        header.PixelSpacing, header.SliceThickness = [0.75, 0.5], "2.5"
        headers.append(header)
        instances.append(Instance(Member(folder / f"{number}.dcm"), header.SOPInstanceUID))
    return headers, instances


def enhanced(folder: Path, shear: float = 0.0) -> tuple[list[Dataset], list[Instance]]:
    header = _header(0)
    header.SOPClassUID, header.NumberOfFrames = EnhancedCTImageStorage, SLICES
    shared, measures, direction = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.75, 0.5], "2.5"
    direction.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([direction])
    header.SharedFunctionalGroupsSequence = Sequence([shared])
    header.PerFrameFunctionalGroupsSequence = Sequence()
    for number in range(SLICES):
        group, place = Dataset(), Dataset()
        place.ImagePositionPatient = _position(number, shear)
        group.PlanePositionSequence = Sequence([place])
        header.PerFrameFunctionalGroupsSequence.append(group)
    member = Member(folder / "enhanced.dcm")
    return [header], [Instance(member, header.SOPInstanceUID, frame) for frame in reversed(range(SLICES))]


FORMS = {"classic": classic, "enhanced": enhanced}


def label_planes(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Masks that differ in each slice, whose ends are empty, and that no turn or flip leaves as they are."""
    labels = np.zeros(shape, np.uint8)
    for number in range(1, len(labels) - 1):
        labels[number, 1 : 3 + number, 1:4] = 1
        labels[number, 2:6, 5 : 7 + number % 3] = 2
    labels[2, 2:4, 2:4] |= 4
    labels[3, 3, 5] |= 4
    return labels


def errors_of(path: Path) -> list[str]:
    """What dciodvfy of dicom3tools finds wrong with an object."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not there: apt-get install dicom3tools")
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).splitlines()
    assert lines
    return [line for line in lines if line.startswith(("Error", "Abort"))]
