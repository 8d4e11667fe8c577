"""A phantom gives the same findings regardless of how it is stored."""

import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.fileset import FileSet

from dicom_faults import write_series
from groundglass.commands.predict_volumes import predict_volumes
from groundglass.detect.detector import Detector
from groundglass.phantom import Phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.phantom.dicom_syntax import SYNTAXES
from groundglass.scan.find import find_series
from phantom_nifti import write_nifti

SAME = (
    "probability",
    "verdict",
    "severity",
    "both_lung_ml",
    "both_lesion_ml",
    "right_lung_ml",
    "left_lesion_ml",
)
LOSSLESS = [name for name, syntax in SYNTAXES.items() if syntax.lossless]
LOSSY = [name for name, syntax in SYNTAXES.items() if not syntax.lossless]


def found(detector: Detector, path: Path) -> dict[str, Any]:
    (row,) = predict_volumes(find_series([path]), None, detector=detector).rows
    assert not row["problem"]
    return row


@pytest.fixture(scope="module")
def expected(
    shipped_detector: Detector, covid_phantom: Phantom, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("plain")
    write_phantom_dicom(covid_phantom, folder)
    return found(shipped_detector, folder)


def dicom(**how: Any) -> Callable[[Phantom, Path], Path]:
    def write(phantom: Phantom, folder: Path) -> Path:
        write_phantom_dicom(phantom, folder, **how)
        return folder

    return write


def classic(**how: Any) -> Callable[[Phantom, Path], Path]:
    def write(phantom: Phantom, folder: Path) -> Path:
        write_series(phantom, folder, **how)
        return folder

    return write


def nifti(orientation: str) -> Callable[[Phantom, Path], Path]:
    def write(phantom: Phantom, folder: Path) -> Path:
        return write_nifti(phantom, folder / "ct.nii.gz", orientation=orientation)

    return write


def renamed(phantom: Phantom, folder: Path) -> Path:
    """Names without suffixes in reverse order."""
    paths = write_phantom_dicom(phantom, folder)
    random.Random(0).shuffle(paths)
    for number, path in enumerate(paths):
        path.rename(folder / f"IM{number:03d}")
    return folder


def zipped(phantom: Phantom, folder: Path) -> Path:
    with zipfile.ZipFile(folder / "ct.zip", "w") as archive:
        for path in write_phantom_dicom(phantom, folder / "ct"):
            archive.write(path, path.name)
    return folder / "ct.zip"


def disc(phantom: Phantom, folder: Path) -> Path:
    files = FileSet()
    for path in write_phantom_dicom(phantom, folder / "ct"):
        files.add(path)
    files.write(folder / "disc")
    return folder / "disc" / "DICOMDIR"


FORMS: dict[str, Callable[[Phantom, Path], Path]] = {
    **{f"classic, {syntax}": dicom(syntax=syntax) for syntax in LOSSLESS},
    "enhanced": dicom(form="enhanced", syntax="jpeg-lossless"),
    "legacy": dicom(form="legacy-enhanced"),
    "signed": classic(storage="signed"),
    "reversed": classic(names="reversed"),
    "shuffled": classic(names="shuffled"),
    **{fault: classic(fault=fault) for fault in ("prone", "feet-first", "quarter-turn", "minimal-header")},
    **{f"NIfTI, {axes}": nifti(axes) for axes in ("RAS", "LPS", "PIR", "SAL")},
    "without endings": renamed,
    "ZIP": zipped,
    "DICOMDIR": disc,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_findings_are_the_same(
    form: str, tmp_path: Path, shipped_detector: Detector, covid_phantom: Phantom, expected: dict[str, Any]
) -> None:
    row = found(shipped_detector, FORMS[form](covid_phantom, tmp_path))
    known = [name for name in SAME if form != "minimal-header" or name.startswith(("both_", "verdict"))]
    for name in known:  # without an orientation, neither side is named
        assert row[name] == (
            pytest.approx(expected[name], rel=1e-5) if isinstance(expected[name], float) else expected[name]
        )


@pytest.mark.parametrize("syntax", LOSSY)
def test_lossy_syntaxes_change_little(
    syntax: str, tmp_path: Path, shipped_detector: Detector, covid_phantom: Phantom, expected: dict[str, Any]
) -> None:
    write_phantom_dicom(covid_phantom, tmp_path, syntax=syntax)
    row = found(shipped_detector, tmp_path)
    assert row["verdict"] == expected["verdict"]
    assert row["both_lung_ml"] == pytest.approx(expected["both_lung_ml"], rel=0.01)
    assert row["both_lesion_ml"] == pytest.approx(expected["both_lesion_ml"], rel=0.1)
