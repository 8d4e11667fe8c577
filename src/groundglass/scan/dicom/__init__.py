"""DICOM: files and their headers to series, and a series' pixels to Hounsfield units, one slice at a time.

What it reads is described in DICOM PS3.3 (objects), PS3.5 (encoding) and PS3.10 (files). The package loads pydicom
and imagecodecs, so it is imported only where a DICOM file was met.
"""

from groundglass.scan.dicom.series import dicom_series

__all__ = ["dicom_series"]
