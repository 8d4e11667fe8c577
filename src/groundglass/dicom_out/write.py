"""Writing the results of one CT series as DICOM objects."""

import hashlib
import logging
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
from highdicom.base import SOPClass
from numpy.typing import NDArray
from pydicom import config

from groundglass.dicom_out.deidentify import deidentify
from groundglass.dicom_out.measured import Measured, Written
from groundglass.dicom_out.sc import make_picture
from groundglass.dicom_out.seg import make_segmentation
from groundglass.dicom_out.sources import Sources, read_sources
from groundglass.dicom_out.sr import make_report
from groundglass.dicom_out.stamp import Stamp
from groundglass.files import replacing
from groundglass.scan.volume import Origin

OWN_WORDS = ("ContentSequence", "SeriesDescription")
"""Attributes whose words are all this program's."""


def write_results(
    folder: Path,
    origin: Origin,
    masks: NDArray[np.uint8] | None,
    measured: Measured,
    montage: NDArray[np.uint8] | None = None,
    *,
    anonymise: bool = False,
    seed: str | None = None,
    when: datetime | None = None,
) -> Written:
    """Write ``sr.dcm``, ``seg.dcm`` and ``sc.dcm``, each a new series of the source's study.

    Parameters
    ----------
    folder
        Where to; made if it does not exist. Files of these names are replaced.
    origin
        The source images, whose headers are read again.
    masks
        uint8, shape (slices, height, width), in the volume's order and orientation: 1 in the right lung, 2 in
        the left, 4 more in a lesion. None, or without a voxel, for no segmentation.
    measured
        What the report says.
    montage
        uint8, shape (height, width, 3), RGB, with the words "research use" in it; None for no picture.
    anonymise
        Whether to treat all three with :func:`deidentify`, by a key that follows from ``seed``.
    seed
        From which all new UIDs follow; None for new ones at each call. It should name all that the results
        follow from, since one UID must stand for one content. With ``anonymise``, keep it secret.
    when
        The date and time of the content; None for now. With both, the same bytes are written again.

    Returns
    -------
    The files, and warnings.

    Raises
    ------
    GroundglassError
        If the images are of several patients or studies, do not fit the masks, or a file cannot be written.
    ScanError
        If a source file cannot be read any more.
    """
    stamp = Stamp(seed or secrets.token_hex(16), when or datetime.now())
    with _silence():
        sources = read_sources(origin, stamp)
        reason = sources.nowhere or ("" if masks is not None and masks.any() else "there is no mask")
        segmentation = None
        if masks is not None and not reason:
            segmentation = make_segmentation(sources, origin, masks, measured, stamp)
        objects: dict[str, SOPClass] = {"sr": make_report(sources, segmentation, measured, stamp)}
        if segmentation is not None:
            objects["seg"] = segmentation
        if montage is not None:
            objects["sc"] = make_picture(sources, montage, stamp)
        paths = {name: folder / f"{name}.dcm" for name in objects}
        for name, written in objects.items():
            _finish(written, sources, stamp, anonymise)
            with replacing(paths[name], "wb") as handle:
                written.save_as(handle, enforce_file_format=True)
    missing = (f"no DICOM segmentation was written: {reason}",) if reason else ()
    return Written(paths["sr"], paths.get("seg"), paths.get("sc"), (*sources.warnings, *missing))


def _finish(written: SOPClass, sources: Sources, stamp: Stamp, anonymise: bool) -> None:
    stamp.finish(written, sources.person)
    if anonymise:
        key = hashlib.sha256(f"groundglass anonymise\0{stamp.seed}".encode()).digest()
        deidentify(
            written, key, clean=OWN_WORDS
        )  # the same for all, as the method is the patient's attribute


@contextmanager
def _silence() -> Iterator[None]:
    """Let pydicom and highdicom write nothing to logs or warnings, where they quote names and UIDs."""
    levels = {logger: logger.level for logger in map(logging.getLogger, ("highdicom", "pydicom"))}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
