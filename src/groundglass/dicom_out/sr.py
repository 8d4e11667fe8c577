"""The Comprehensive 3D SR (PS3.3 A.35.13): a Measurement Report by TID 1500 of PS3.16."""

from typing import Any

import highdicom.sr as hd
from highdicom.seg import Segmentation
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dicom
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from groundglass import __version__
from groundglass.bundle.facts import RESEARCH_USE
from groundglass.dicom_out import stamp as codes
from groundglass.dicom_out.seg import SEGMENTS, Segment
from groundglass.dicom_out.sources import Sources
from groundglass.dicom_out.stamp import Measured, Stamp, blank_image, uid_of

SERIES_NUMBER = 9001
DEVICE = uid_of("device", codes.NAME)
"""UID of the observer: this program, wherever it runs."""

Group = hd.MeasurementsAndQualitativeEvaluations | hd.VolumetricROIMeasurementsAndQualitativeEvaluations


def make_report(
    sources: Sources, segmentation: Segmentation | None, measured: Measured, stamp: Stamp
) -> hd.Comprehensive3DSR:
    """Make the report, without the patient.

    It contains a TID 1501 group with the answer for the patient, and one group for each segment: TID 1411 if there
    is a segmentation to refer to, else TID 1501. Its evidence lists every source image.
    """
    report = hd.MeasurementReport(
        observation_context=_observer(),
        procedure_reported=codes.CT_OF_CHEST,
        imaging_measurements=[
            _answer(measured, stamp),
            *[
                _segment(one, sources, segmentation, measured, stamp)
                for one in SEGMENTS
                if segmentation is not None or _volumes(one, measured)
            ],
        ],
        language_of_content_item_and_descendants=hd.LanguageOfContentItemAndDescendants(codes.ENGLISH),
    )
    images = {one.sop_instance: one for one in sources.slices}.values()
    evidence: list[Dataset] = [
        blank_image(sources.study, one.series, one.sop_class, one.sop_instance) for one in images
    ]
    return hd.Comprehensive3DSR(
        evidence if segmentation is None else [*evidence, segmentation],
        report,
        is_complete=True,
        coding_schemes=[codes.scheme()],
        **stamp.series("SR", SERIES_NUMBER, "report"),
    )


def _observer() -> hd.ObservationContext:
    device = hd.DeviceObserverIdentifyingAttributes(
        DEVICE, name=codes.NAME, manufacturer_name=codes.NAME, model_name=f"{codes.NAME} {__version__}"
    )
    return hd.ObservationContext(observer_device_context=hd.ObserverContext(dicom.DCM.Device, device))


def _answer(measured: Measured, stamp: Stamp) -> Group:
    numbers = (
        (codes.PROBABILITY, measured.probability, codes.ONE),
        (codes.VOLUME, measured.lung_ml.get("both"), codes.MILLILITRE),
        (codes.SLICES_USED, measured.slices_used, codes.ONE),
    )
    verdict = codes.VERDICTS.get(measured.verdict)
    group = hd.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.TrackingIdentifier(stamp.uid("answer"), f"{codes.NAME} answer"),
        finding_sites=[hd.FindingSite(codes.BOTH_LUNGS)],
        algorithm_id=codes.algorithm_of_report(measured),
        measurements=_measurements(numbers),
        qualitative_evaluations=None if verdict is None else [hd.QualitativeEvaluation(codes.COVID, verdict)],
    )
    texts = (
        (codes.VERDICT, measured.verdict),
        (codes.SEVERITY, measured.severity),
        (codes.SEVERITY_SOURCE, measured.severity_source if measured.severity else ""),
        (codes.COMMENT, RESEARCH_USE),
    )
    contains = hd.RelationshipTypeValues.CONTAINS
    group[0].ContentSequence.extend(
        hd.TextContentItem(name, text, relationship_type=contains) for name, text in texts if text
    )
    return group


def _segment(
    segment: Segment, sources: Sources, segmentation: Segmentation | None, measured: Measured, stamp: Stamp
) -> Group:
    described: dict[str, Any] = {
        "tracking_identifier": hd.TrackingIdentifier(segment.tracking_uid(stamp), segment.tracking_id),
        "finding_category": segment.category,
        "finding_type": segment.kind,
        "finding_sites": [hd.FindingSite(codes.LUNGS[segment.side])],
        "algorithm_id": codes.algorithm_of_report(measured),
        "measurements": _measurements(_volumes(segment, measured)),
    }
    if segmentation is None:
        return hd.MeasurementsAndQualitativeEvaluations(**described)
    reference = hd.ReferencedSegment(
        SegmentationStorage,
        segmentation.SOPInstanceUID,
        segment.number,
        source_series=hd.SourceSeriesForSegmentation(sources.slices[0].series),
    )
    return hd.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=reference, **described)


Number = tuple[Code, float | None, Code]


def _volumes(segment: Segment, measured: Measured) -> tuple[Number, ...]:
    """The measurements of a segment; unknown ones are left out."""
    side = segment.side
    share = measured.lesion_share.get(side)
    lesion: Number = (codes.LESION_VOLUME, measured.lesion_ml.get(side), codes.MILLILITRE)
    percent: Number = (codes.LESION_SHARE, None if share is None else 100 * share, codes.PERCENT)
    if segment.kind == codes.LESION:
        numbers: list[Number] = [(codes.VOLUME, *lesion[1:]), percent]
    else:
        numbers = [(codes.VOLUME, measured.lung_ml.get(side), codes.MILLILITRE), lesion, percent]
    return tuple(number for number in numbers if number[1] is not None)


def _measurements(numbers: tuple[Number, ...]) -> list[hd.Measurement]:
    return [hd.Measurement(name, value, unit) for name, value, unit in numbers if value is not None]
