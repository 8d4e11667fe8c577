"""Write all results of a study as DICOM, and make the Secondary Capture image (PS3.3 A.8.1).

That image is a picture for viewers that show neither segmentations nor reports.
"""

import io
import logging
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
from highdicom.base import SOPClass
from highdicom.sc import SCImage
from numpy.typing import NDArray
from pydicom import Dataset, config, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.valuerep import DA, TM

from groundglass.dicom_out.deidentify import deidentify
from groundglass.dicom_out.seg import make_segmentation
from groundglass.dicom_out.sources import Sources, read_sources, remove_free_text, without_free_text
from groundglass.dicom_out.sr import make_report
from groundglass.dicom_out.stamp import Measured, ResultsError, Stamp, Written
from groundglass.files import write_bytes
from groundglass.scan.volume import Origin

SERIES_NUMBER = 9003


def make_picture(sources: Sources, picture: NDArray[np.uint8], stamp: Stamp) -> SCImage:
    """Make the Secondary Capture, without the patient.

    Parameters
    ----------
    picture
        uint8, shape (height, width, 3), RGB, with the words "research use" and no text about the patient: the
        object states that no such text is burned in.

    Raises
    ------
    ResultsError
        If the picture has another type or shape.
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
    # BurnedInAnnotation is about text that identifies the patient (PS3.3 C.7.6.1); there is none.
    written.BurnedInAnnotation = "NO"
    written.RecognizableVisualFeatures = "NO"
    written.BodyPartExamined = "CHEST"
    written.DateOfSecondaryCapture, written.TimeOfSecondaryCapture = DA(stamp.date), TM(stamp.time)
    return written


OWN_WORDS = ("ContentSequence", "SeriesDescription")
"""Attributes whose text comes entirely from this program."""


def write_results(
    folder: Path,
    origin: Origin,
    masks: NDArray[np.uint8] | None,
    measured: Measured,
    montage: NDArray[np.uint8] | None = None,
    *,
    anonymise_key: bytes | None = None,
    seed: str | None = None,
    when: datetime | None = None,
    replaces: Dataset | None = None,
) -> Written:
    """Write ``sr.dcm``, ``seg.dcm`` and ``sc.dcm``, each a new series of the source's study.

    Parameters
    ----------
    folder
        Output folder, created if needed. Files of these names are replaced.
    origin
        The source images, whose headers are read again.
    masks
        uint8, shape (slices, height, width), in the volume's order and orientation, as
        :func:`groundglass.segment.shares.label_plane` gives each slice: 1 in the right lung, 2 in the left,
        plus 4 in a lesion, plus 8 in consolidation. None, or all 0, for no segmentation.
    measured
        The measurements for the report; their texts must reveal nothing about the patient.
    montage
        uint8, shape (height, width, 3), RGB, with the words "research use" and no text about the
        patient; None for no picture.
    anonymise_key
        Key for :func:`deidentify`, which is then applied to all three objects; None to skip this. The same key
        gives the same pseudonyms and UIDs, so two studies of one patient keep one pseudonym, and the results of a
        later run join the same pseudonymous study. Keep it secret.
    seed
        All new UIDs are derived from it; None for new ones at each call. It should identify everything that the
        results depend on, since a UID must identify one content only: a repetition with another ``when`` needs
        another seed.
    when
        The date and time of the content; None for now. With ``seed`` and ``when``, a repeated call
        writes the same bytes.
    replaces
        The report of an earlier version of these images that this one supersedes, if there is one: the new report
        names it as its predecessor.

    Returns
    -------
    The files, and warnings.

    Raises
    ------
    ResultsError
        If the images are from several patients or studies, one has no valid SOPInstanceUID, they do not fit the
        masks, or the montage is not such a picture; no file is written then.
    ScanError
        If a source file can no longer be read; no file is written then either.
    GroundglassError
        If a file cannot be written.
    """
    stamp = Stamp(seed or secrets.token_hex(16), when or datetime.now(), later=replaces is not None)
    with _silence():
        sources = read_sources(origin, stamp)
        if anonymise_key is not None:
            sources = without_free_text(sources)
        reason = sources.no_stack or ("" if masks is not None and masks.any() else "there is no mask")
        segmentation = None
        if masks is not None and not reason:
            segmentation = make_segmentation(sources, origin, masks, measured, stamp)
        report = make_report(sources, segmentation, measured, stamp, replaces)
        objects: dict[str, SOPClass] = {"sr": report}
        if segmentation is not None:
            objects["seg"] = segmentation
        if montage is not None:
            objects["sc"] = make_picture(sources, montage, stamp)
        contents = {
            name: _encoded(written, sources, stamp, anonymise_key) for name, written in objects.items()
        }
    paths = {name: folder / f"{name}.dcm" for name in contents}
    for name, content in contents.items():
        write_bytes(paths[name], content)
    missing = (f"no DICOM segmentation was written: {reason}",) if reason else ()
    return Written(paths["sr"], paths.get("seg"), paths.get("sc"), (*sources.warnings, *missing))


def read_report(path: Path) -> Dataset | None:
    """The report that :func:`write_results` wrote to a file; None if it no longer exists or is not DICOM."""
    try:
        return dcmread(path)
    except (OSError, InvalidDicomError):
        return None


def anonymised(written: Dataset, key: bytes) -> None:
    """De-identify an object of :func:`write_results` in place, as that function does with this key."""
    with _silence():
        remove_free_text(written)
        deidentify(written, key, clean=OWN_WORDS)


def _encoded(written: SOPClass, sources: Sources, stamp: Stamp, key: bytes | None) -> bytes:
    """The content of a finished object's file. On a full disk, pydicom's own writing raises a long traceback."""
    stamp.finish(written, sources.person)
    if key is not None:
        # All objects are de-identified in the same way: (0012,0064) belongs to the patient and must agree in all.
        deidentify(written, key, clean=OWN_WORDS)
    buffer = io.BytesIO()
    written.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep pydicom and highdicom from logging or warning, since their messages quote names and UIDs."""
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
