from pathlib import Path

import pytest

from dicom_faults import write_faulty_dicom
from groundglass.phantom import make_phantom, random_lesions
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.phantom.volumes import write_phantom_nifti

SHAPE = (10, 128, 128)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five studies with and without lesions, DICOM and NIfTI, and one that cannot be answered."""
    root = tmp_path_factory.mktemp("cohort")
    for number in range(5):
        lesions = random_lesions(number, "covid") if number % 2 else []
        phantom = make_phantom(number, shape=SHAPE, lesions=lesions)
        if number < 3:
            write_phantom_dicom(phantom, root / f"study{number}")
        else:
            write_phantom_nifti(phantom, root / f"study{number}.nii.gz")
    write_faulty_dicom(make_phantom(9, shape=SHAPE), root / "scout", fault="localizer-alone", seed=9)
    return root
