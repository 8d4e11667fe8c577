"""Heatmaps: a slice overlaid with the evidence for COVID-19."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundglass.detect.findings import SliceFinding
from groundglass.segment.overlay import overlay

ANCHORS = np.array(
    [(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], dtype=np.float32
)
"""Five colours of matplotlib's map 'inferno', which is perceptually uniform and safe for colour-blind readers."""
FULL_SCALE = 6.0
"""Local logit that is drawn in the brightest colour. A slice that looked like this everywhere would have a
probability of 99.8%. All slices share this scale, so that maps can be compared."""
OPACITY = 0.65
"""Opacity of the colour from half of the full scale upwards; below, it fades out."""

_STEPS = np.linspace(0, 1, 256)
_COLOURS = np.stack([np.interp(_STEPS, np.linspace(0, 1, len(ANCHORS)), c) for c in ANCHORS.T], axis=-1)
_PALETTE = np.rint(_COLOURS).astype(np.uint8).tobytes()
_OPACITIES = np.rint(255 * OPACITY * np.clip(2 * _STEPS, 0, 1)).astype(int).tolist()


def grey_image(finding: SliceFinding) -> Image.Image:
    """The slice as 8-bit grey, with HU shown in the bundle's window."""
    return Image.fromarray(finding.preprocessing.picture(finding.scan))


def heatmap(finding: SliceFinding) -> Image.Image:
    """The slice in RGB at its own size, with any evidence for COVID-19 overlaid in colour."""
    slice_image = grey_image(finding)
    if not finding.has_evidence:
        return slice_image.convert("RGB")
    strength = Image.fromarray(evidence_strength(finding))
    colour = strength.copy()
    colour.putpalette(_PALETTE)
    return Image.composite(colour.convert("RGB"), slice_image.convert("RGB"), strength.point(_OPACITIES))


def finding_picture(finding: SliceFinding) -> Image.Image:
    """The heatmap and, if lungs were found, the slice with its masks beside it, in RGB."""
    evidence = heatmap(finding)
    if finding.segmentation is None or not finding.segmentation.found:
        return evidence
    both = Image.new("RGB", (2 * evidence.width, evidence.height))
    both.paste(evidence)
    grey8 = finding.preprocessing.picture(finding.scan)
    both.paste(overlay(grey8, finding.segmentation), (evidence.width, 0))
    return both


def evidence_map(finding: SliceFinding, shape: tuple[int, ...] | None = None) -> NDArray[np.float32]:
    """The evidence for COVID-19 at each pixel of the slice.

    Parameters
    ----------
    finding
        A finding with evidence.
    shape
        The slice's (height, width), for a finding that no longer holds its slice.

    Returns
    -------
    float32, the slice's shape (height, width): the logit of a slice that looked like that place everywhere.
    It is negative where an area argues against COVID-19, and 0 outside the model's input.
    """
    preprocessing = finding.preprocessing
    local_logit = finding.evidence * np.float32(finding.evidence.size)
    rows, columns = preprocessing.size
    whole = np.asarray(Image.fromarray(local_logit).resize((columns, rows), Image.Resampling.BICUBIC))
    region = finding.region
    inner = Image.fromarray(whole[preprocessing.box(region.height, region.width).slices])
    laid = np.zeros(shape or finding.scan.pixels.shape, dtype=np.float32)
    laid[region.slices] = np.asarray(inner.resize((region.width, region.height), Image.Resampling.BILINEAR))
    return laid


def evidence_strength(finding: SliceFinding, shape: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    """The evidence for COVID-19 as 8-bit values, 255 for ``FULL_SCALE``; see :func:`evidence_map`."""
    scaled = evidence_map(finding, shape) * np.float32(255 / FULL_SCALE)
    return np.rint(scaled.clip(0, 255)).astype(np.uint8)
