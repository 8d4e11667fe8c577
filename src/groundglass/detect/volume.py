"""Predict for a volume slice by slice, so that memory use does not grow with the number of slices."""

from dataclasses import replace

from groundglass.detect.detector import Detector
from groundglass.detect.findings import SliceFinding
from groundglass.detect.patient import PatientFinding, conclude, enough_lung
from groundglass.errors import GroundglassError, ScanError
from groundglass.labels import NOT_A_CHEST_CT
from groundglass.scan.volume import Volume
from groundglass.segment.segmenter import Segmenter
from groundglass.segment.shares import consolidation_counts, counts
from groundglass.segment.volume import Seen, VolumeMasks


def answer_volume(detector: Detector, volume: Volume, seen: Seen | None = None) -> PatientFinding:
    """Find lungs and lesions on every slice, run the network on those with lungs, and answer for the patient.

    The finding's slices that show lungs keep the network's evidence. A volume that is not a chest CT has
    empty masks.

    Parameters
    ----------
    detector
        A detector with a segmenter.
    volume
        The volume; threads read its slices ahead.
    seen
        Called after each readable slice, in the caller's thread.

    Raises
    ------
    ScanError
        If too many slices are damaged.
    GroundglassError
        If the detector has no segmenter.
    """
    masks = VolumeMasks(volume, detector.bundle.facts.preprocessing)
    with_lungs = masks.slices(segmenter_of(detector), seen)
    asked = {
        number: finding.without_pixels()
        for number, finding in detector.predict_segmented(with_lungs)
        if not isinstance(finding, ScanError)
    }
    slices = [_slice(masks, number, asked.get(number)) for number in range(volume.shape[0])]
    slices = [replace(one, counted=enough) for one, enough in zip(slices, enough_lung(slices), strict=True)]
    pixel_mm2 = None if volume.geometry is None else volume.geometry.pixel_mm2
    finding = conclude(
        detector.bundle.facts,
        slices,
        masks.thickness_mm(),
        pixel_mm2,
        masks.warnings,
        volume.age_years,
        oriented=volume.oriented,
    )
    if finding.verdict == NOT_A_CHEST_CT:
        masks.labels[:] = 0
    return replace(finding, view=masks)


def segmenter_of(detector: Detector) -> Segmenter:
    """The detector's segmenter; raises GroundglassError if it has none, since volumes need one."""
    if detector.segmenter is None:
        raise GroundglassError("volumes need the lung segmentation: leave out --no-lungs (lungs=False)")
    return detector.segmenter


def _slice(masks: VolumeMasks, number: int, asked: SliceFinding | None) -> SliceFinding:
    """A slice's finding within its volume; the network's answer counts only if lungs remain on the slice."""
    geometry = masks.volume.geometry
    height = None if geometry is None else float(geometry.heights_mm[number])
    lungs, lesions = counts(masks.labels[number])
    if asked is None or not sum(lungs):
        return SliceFinding(number=number + 1, height_mm=height, reason=masks.why_without_lungs(number))
    return replace(
        asked,
        number=number + 1,
        height_mm=height,
        lungs_px=lungs,
        lesions_px=lesions,
        consolidation_px=None
        if asked.consolidation_px is None
        else consolidation_counts(masks.labels[number]),
        reason="",
    )
