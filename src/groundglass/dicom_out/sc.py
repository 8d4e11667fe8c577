"""The Secondary Capture image (PS3.3 A.8.1): one picture for viewers that show no segmentation and no report."""

import numpy as np
from highdicom.sc import SCImage
from numpy.typing import NDArray
from pydicom.valuerep import DA, TM

from groundglass.dicom_out.errors import ResultsError
from groundglass.dicom_out.sources import Sources
from groundglass.dicom_out.stamp import Stamp

SERIES_NUMBER = 9003


def make_picture(sources: Sources, picture: NDArray[np.uint8], stamp: Stamp) -> SCImage:
    """Make the Secondary Capture, without the patient.

    Parameters
    ----------
    picture
        uint8, shape (height, width, 3), RGB, with the words "research use" in it and no text on the patient:
        the object states that none is burned in.

    Raises
    ------
    ResultsError
        If it is no such picture.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise ResultsError(f"a picture is uint8 RGB (height, width, 3), got {picture.dtype} {picture.shape}")
    written = SCImage(
        np.ascontiguousarray(picture),
        "RGB",
        8,
        "PATIENT",
        study_instance_uid=sources.study,
        patient_orientation=("L", "P"),
        **stamp.series("SC", SERIES_NUMBER, "montage"),
    )
    # It tells of words that identify the patient (PS3.3 C.7.6.1), of which there are none.
    written.BurnedInAnnotation = "NO"
    written.RecognizableVisualFeatures = "NO"
    written.BodyPartExamined = "CHEST"
    written.DateOfSecondaryCapture, written.TimeOfSecondaryCapture = DA(stamp.date), TM(stamp.time)
    return written
