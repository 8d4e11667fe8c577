"""Where a detector's heatmap lies: on the lungs, on the lesions, or elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from groundglass.audit.measure.figures import estimated
from groundglass.audit.trial import Trial
from groundglass.detect.detector import SliceFinding
from groundglass.detect.heatmap import evidence_map
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.weighted import Floats, ratio
from groundglass.preprocess import Preprocessing
from groundglass.segment.masks import Segmentation

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Place:
    """How much lies on a place, as shares in [0, 1], each of shape (slices,).

    Attributes
    ----------
    evidence
        Of the positive evidence.
    area
        Of the area that the model saw: what a map that lies evenly has there.
    best
        Of a map of the same grid that lies on the place alone, as far as its coarse cells allow.
    """

    evidence: Floats
    area: Floats
    best: Floats

    def aim(self, units: NDArray[np.intp], seed: int = 0) -> Estimate:
        """How well the evidence is aimed at the place: 0 if it lies evenly, 1 if it lies there as well as it can.

        Negative where it avoids the place. From the means over slices, with an interval by a bootstrap of
        ``units``, shape (slices,).
        """

        def figure(weights: Floats) -> Floats:
            evidence, area, best = (weights @ share for share in (self.evidence, self.area, self.best))
            return ratio(evidence - area, best - area)

        return estimated(figure, units, seed)


def called_covid(trial: Trial) -> NDArray[np.intp]:
    """Places in the sample of the slices that are called covid and whose heatmap has any colour, rising."""
    preprocessing = trial.detector.bundle.facts.preprocessing
    called = np.flatnonzero(trial.probability >= trial.threshold)
    coloured = [_positive(trial.findings[place], preprocessing).any() for place in called]
    return called[np.array(coloured, dtype=bool)]


def heat_on(trial: Trial, places: NDArray[np.intp], where: Callable[[Segmentation], Mask]) -> Place:
    """How much of the heatmaps lies on a place.

    Parameters
    ----------
    places
        In the sample, of slices whose heatmap has any colour.
    where
        From a slice's segmentation to the place: bool, the slice's shape, somewhere True.
    """
    preprocessing = trial.detector.bundle.facts.preprocessing
    shares = []
    for place in places:
        finding, mask = trial.findings[place], where(trial.segmentations[place])
        aimed = replace(finding, evidence=_on_grid(finding, preprocessing, mask))
        evidence, best = (_share(_positive(one, preprocessing), mask) for one in (finding, aimed))
        shares.append((evidence, float(mask[finding.region.slices].mean()), best))
    return Place(*np.array(shares).T)


def _positive(finding: SliceFinding, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """What each pixel of a slice says for COVID-19: float32, the slice's shape, none negative."""
    return np.maximum(evidence_map(finding, preprocessing), 0)


def _share(heat: NDArray[np.float32], mask: Mask) -> float:
    return float(heat[mask].sum(dtype=float) / heat.sum(dtype=float))


def _on_grid(finding: SliceFinding, preprocessing: Preprocessing, mask: Mask) -> NDArray[np.float32]:
    """The share of each cell of the heatmap's grid that lies on the mask."""
    plain = preprocessing.model_copy(update={"clahe": None, "pad_value": 0.0})
    laid = plain.place(mask[finding.region.slices].astype(np.float32)).astype(np.float32)
    return np.asarray(cv2.resize(laid, finding.evidence.shape[::-1], interpolation=cv2.INTER_AREA))
