"""DICOM: group files into series by their headers, and read the pixels slice by slice in Hounsfield units.

The formats are specified in DICOM PS3.3 (objects), PS3.5 (encoding) and PS3.10 (files). The package loads
pydicom and imagecodecs, so it is imported only once a DICOM file is found.
"""

from groundglass.scan.dicom.series import dicom_series

__all__ = ["dicom_series"]
