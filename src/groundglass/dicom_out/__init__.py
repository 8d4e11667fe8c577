"""Results as DICOM objects for a PACS: a structured report, a segmentation and a picture, in the source's study.

highdicom writes them. This package loads highdicom and pydicom, so import it only where results are written as
DICOM.
"""

from groundglass.dicom_out.deidentify import deidentify
from groundglass.dicom_out.stamp import Measured, ResultsError, Written
from groundglass.dicom_out.write import anonymised, read_report, write_results

__all__ = [
    "Measured",
    "ResultsError",
    "Written",
    "anonymised",
    "deidentify",
    "read_report",
    "write_results",
]
