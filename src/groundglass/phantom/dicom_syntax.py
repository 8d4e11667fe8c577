"""Encode a dataset in any transfer syntax (DICOM PS3.5 annex A) without external programs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import pydicom.uid as uids
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite

from groundglass.errors import GroundglassError

IMPLEMENTATION = uids.generate_uid(entropy_srcs=["groundglass phantom"])
JLS_ERROR = 2
"""Largest error of the near-lossless JPEG-LS, in stored values."""
J2K_PSNR = 60
"""Peak signal-to-noise ratio of the lossy JPEG 2000, in dB."""


@dataclass(frozen=True)
class Syntax:
    """A transfer syntax.

    Attributes
    ----------
    uid
        Its UID.
    frame
        Compresses one frame, given as a uint16 or uint8 array of shape (rows, columns) and the number of bits
        stored; None if pydicom compresses it or the syntax is uncompressed.
    options
        Options of pydicom's ``compress``.
    method
        LossyImageCompressionMethod; "" for lossless syntaxes.
    """

    uid: uids.UID
    frame: Callable[[NDArray[Any], int], bytes | bytearray] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    method: str = ""

    @property
    def lossless(self) -> bool:
        """Whether decoding restores the pixels exactly."""
        return not self.method


def _jpeg_lossless(predictor: int) -> Callable[[NDArray[Any], int], bytes | bytearray]:
    return lambda pixels, bits: imagecodecs.jpeg8_encode(
        pixels, lossless=True, predictor=predictor, bitspersample=bits
    )


def _jpeg_2000(level: int | None) -> Callable[[NDArray[Any], int], bytes | bytearray]:
    """JPEG 2000, lossless or with a peak signal-to-noise ratio of ``level`` dB."""
    return lambda pixels, bits: imagecodecs.jpeg2k_encode(
        pixels, level=level, codecformat="j2k", reversible=level is None, bitspersample=bits
    )


SYNTAXES = {
    "implicit-little": Syntax(uids.ImplicitVRLittleEndian),
    "explicit-little": Syntax(uids.ExplicitVRLittleEndian),
    "explicit-big": Syntax(uids.ExplicitVRBigEndian),
    "deflated": Syntax(uids.DeflatedExplicitVRLittleEndian),
    "jpeg-lossless": Syntax(uids.JPEGLosslessSV1, frame=_jpeg_lossless(1)),
    "jpeg-lossless-any": Syntax(uids.JPEGLossless, frame=_jpeg_lossless(4)),
    "jpeg-ls": Syntax(uids.JPEGLSLossless),
    "jpeg-ls-near": Syntax(uids.JPEGLSNearLossless, options={"jls_error": JLS_ERROR}, method="ISO_14495_1"),
    "jpeg-2000": Syntax(uids.JPEG2000Lossless, frame=_jpeg_2000(None)),
    "jpeg-2000-lossy": Syntax(uids.JPEG2000, frame=_jpeg_2000(J2K_PSNR), method="ISO_15444_1"),
    "htj2k": Syntax(
        uids.HTJ2KLossless, frame=lambda pixels, _: imagecodecs.htj2k_encode(pixels, reversible=True)
    ),
    "rle": Syntax(uids.RLELossless),
}
"""Transfer syntaxes by name."""


def encode(dataset: Dataset, syntax: str) -> bytes:
    """The DICOM file of a dataset, whose pixels, if any, are uncompressed and little endian.

    Raises
    ------
    GroundglassError
        If there is no such syntax.
    """
    if syntax not in SYNTAXES:
        raise GroundglassError(f"there is no transfer syntax {syntax}; choose from {', '.join(SYNTAXES)}")
    chosen = SYNTAXES[syntax]
    dataset.file_meta = file_meta(dataset, chosen.uid)
    if "PixelData" in dataset:
        _encode_pixels(dataset, chosen)
    out = BytesIO()
    dcmwrite(
        out,
        dataset,
        implicit_vr=chosen.uid.is_implicit_VR,
        little_endian=chosen.uid.is_little_endian,
        enforce_file_format=True,
    )
    return out.getvalue()


def file_meta(dataset: Dataset, uid: uids.UID) -> FileMetaDataset:
    """The File Meta Information at the start of a DICOM file (PS3.10 section 7.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = uid
    meta.ImplementationClassUID = IMPLEMENTATION
    meta.ImplementationVersionName = "GROUNDGLASS"
    return meta


def _encode_pixels(dataset: Dataset, syntax: Syntax) -> None:
    native = len(dataset.PixelData)
    if syntax.frame is not None:
        kind = "i" if syntax.uid in uids.JPEG2000TransferSyntaxes[:2] and dataset.PixelRepresentation else "u"
        dtype = np.dtype(f"<{kind}{dataset.BitsAllocated // 8}")
        frames = np.frombuffer(dataset.PixelData, dtype).reshape(-1, dataset.Rows, dataset.Columns)
        bits = dataset.BitsStored
        dataset.PixelData = encapsulate([bytes(syntax.frame(frame, bits)) for frame in frames])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    elif syntax.uid.is_compressed and syntax.uid.is_encapsulated:
        dataset.file_meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
        dataset.compress(syntax.uid, generate_instance_uid=False, **syntax.options)
    elif not syntax.uid.is_little_endian and dataset.BitsAllocated == 16:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
    if syntax.method:
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = f"{native / len(dataset.PixelData):.3g}"
        dataset.LossyImageCompressionMethod = syntax.method
