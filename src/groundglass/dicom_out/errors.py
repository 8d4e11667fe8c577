"""The error of sources that no DICOM results can be made from."""

from groundglass.errors import GroundglassError


class ResultsError(GroundglassError):
    """DICOM results cannot be made from these source images, masks or this picture, whatever the disk does."""
