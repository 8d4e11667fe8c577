"""The Comprehensive 3D SR (PS3.3 A.35.13): a Measurement Report by TID 1500 of PS3.16."""

from collections.abc import Iterator
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
from groundglass.dicom_out.seg import TYPED, Segment, segments
from groundglass.dicom_out.sources import Sources
from groundglass.dicom_out.stamp import Measured, Stamp, blank_image, uid_of
from groundglass.segment.extent import DiseaseExtent, region_name

SERIES_NUMBER = 9001
DEVICE = uid_of("device", codes.NAME)
"""UID of the observer: this program, on any machine."""

Group = hd.MeasurementsAndQualitativeEvaluations | hd.VolumetricROIMeasurementsAndQualitativeEvaluations


def make_report(
    sources: Sources,
    segmentation: Segmentation | None,
    measured: Measured,
    stamp: Stamp,
    replaces: Dataset | None = None,
) -> hd.Comprehensive3DSR:
    """Make the report, without the patient.

    It contains a TID 1501 group with the answer for the patient, and one group for each segment: TID 1411 if there
    is a segmentation to refer to, else TID 1501. More TID 1501 groups have the lung of each zone, and, if the
    segmenter distinguishes them, the lesions of each type in each lung and zone. Its evidence lists every source
    image. A report that it ``replaces`` is its predecessor.
    """
    report = hd.MeasurementReport(
        observation_context=_observer(),
        procedure_reported=codes.CT_OF_CHEST,
        imaging_measurements=[
            _answer(measured, stamp),
            *[
                _segment(one, sources, segmentation, measured, stamp)
                for one in segments(measured)
                if segmentation is not None or _volumes(one.kind, measured.extent[one.side])
            ],
            *_regions(measured, stamp),
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
        previous_versions=None if replaces is None else [replaces],
        **stamp.series("SR", SERIES_NUMBER, "report"),
    )


def _observer() -> hd.ObservationContext:
    device = hd.DeviceObserverIdentifyingAttributes(
        DEVICE, name=codes.NAME, manufacturer_name=codes.NAME, model_name=f"{codes.NAME} {__version__}"
    )
    return hd.ObservationContext(observer_device_context=hd.ObserverContext(dicom.DCM.Device, device))


def _answer(measured: Measured, stamp: Stamp) -> Group:
    both = measured.extent["both"]
    volume: Number = (codes.VOLUME, both.lung_ml, codes.MILLILITRE)
    numbers: tuple[Number, ...] = (
        (codes.PROBABILITY, measured.probability, codes.ONE),
        *((codes.LIKELIHOOD_RATIOS[one.setting], one.ratio, codes.ONE) for one in measured.likelihood_ratios),
        # Without types, the lesions of both lungs have a group of their own.
        *(_volumes(codes.BOTH_LUNGS, both) if both.typed else (volume,)),
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
        *((codes.LIKELIHOOD_RATIO, str(ratio)) for ratio in measured.likelihood_ratios),
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
        "measurements": _measurements(_volumes(segment.kind, measured.extent[segment.side])),
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


def _regions(measured: Measured, stamp: Stamp) -> Iterator[Group]:
    """Regions without a segment: the lung of each zone, and the types of lesions in each lung and zone."""
    for region, extent in measured.extent.items():
        side, _, third = region.partition("_")
        if side == "both":
            continue
        site = (
            hd.FindingSite(codes.ZONES[third], codes.SIDES[side])
            if third
            else hd.FindingSite(codes.LUNGS[side])
        )
        found = [("", codes.ORGAN, codes.ZONES[third])] if third else []
        if extent.typed:
            found += [(f" {one.label.lower()}", one.category, one.kind) for one in TYPED]
        for name, category, kind in found:
            if numbers := _volumes(kind, extent):
                label = f"{codes.NAME} {region_name(region)}{name}"
                yield hd.MeasurementsAndQualitativeEvaluations(
                    tracking_identifier=hd.TrackingIdentifier(stamp.uid(label), label),
                    finding_category=category,
                    finding_type=kind,
                    finding_sites=[site],
                    algorithm_id=codes.algorithm_of_report(measured),
                    measurements=_measurements(numbers),
                )


Number = tuple[Code, float | None, Code]


def _volumes(kind: Code, extent: DiseaseExtent) -> tuple[Number, ...]:
    """The measurements of lung, lesions or a type of lesion in a region; unknown ones are left out."""
    volume, lesions, name = {
        codes.LESION: (extent.lesion_ml, extent.lesion_share, codes.LESION_SHARE),
        codes.GROUND_GLASS: (extent.ground_glass_ml, extent.ground_glass_share, codes.TYPE_SHARE),
        codes.CONSOLIDATION: (extent.consolidation_ml, extent.consolidation_share, codes.TYPE_SHARE),
    }.get(kind, (extent.lung_ml, extent.lesion_share, codes.LESION_SHARE))
    numbers: list[Number] = [(codes.VOLUME, volume, codes.MILLILITRE)]
    if kind in (*codes.LUNGS.values(), *codes.ZONES.values()):
        numbers.append((codes.LESION_VOLUME, extent.lesion_ml, codes.MILLILITRE))
    numbers.append((name, None if lesions is None else 100 * lesions, codes.PERCENT))
    return tuple(number for number in numbers if number[1] is not None)


def _measurements(numbers: tuple[Number, ...]) -> list[hd.Measurement]:
    return [hd.Measurement(name, value, unit) for name, value, unit in numbers if value is not None]
