"""The subject of the checks of a detector: the detector, labelled scans, and its answers to them, changed or
not."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.material import Material
from groundglass.detect.detector import Detector
from groundglass.detect.findings import SliceFinding
from groundglass.evaluation.predictions import unit_codes
from groundglass.scan.read import read_scan
from groundglass.scan.scan import Scan
from groundglass.segment.masks import Segmentation
from groundglass.segment.segmenter import Segmenter

Picture = NDArray[np.float32]
"""Grey in [0, 1], float32, shape (height, width)."""
SAMPLE = 400
"""At most this many slices are changed and answered again; if there are more, a stratified sample is drawn."""


def some_of(places: NDArray[np.intp], at_most: int, seed: int) -> NDArray[np.intp]:
    """At most ``at_most`` of some indices, drawn with the seed, sorted."""
    return np.sort(np.random.default_rng(seed).permutation(places)[:at_most])


@dataclass
class Trial:
    """A detector on labelled scans; anything slow is computed once.

    Attributes
    ----------
    detector
        The detector.
    material
        The scans, as the checks of data see them.
    predictions
        Its answers for all of ``material``, in the same order, in the form of
        groundglass.evaluation.predictions.
    segmenter
        Finds the lungs that are removed or kept; None leaves these checks out.
    external
        Whether the detector was trained on none of the scans' sources; None if that is not known.
    part
        The part of the dataset: ``train``, ``val``, ``test`` or ``all``.
    asks
        Whether the detector can be run on other slices; False if only its predictions are known.
    """

    detector: Detector
    material: Material
    predictions: pd.DataFrame
    segmenter: Segmenter | None
    external: bool | None
    part: str
    asks: bool = True

    NEEDS: ClassVar[dict[str, Callable[["Trial"], str]]]

    @cached_property
    def sample(self) -> NDArray[np.intp]:
        """Sorted indices in ``material`` of the slices that are changed."""
        count = len(self.material.truth)
        if count <= SAMPLE:
            return np.arange(count)
        generator = np.random.default_rng(self.material.seed)
        drawn = []
        for label in (True, False):
            places = np.flatnonzero(self.material.truth == label)
            drawn.append(generator.choice(places, round(SAMPLE * len(places) / count), replace=False))
        return np.sort(np.concatenate(drawn))

    @cached_property
    def truth(self) -> NDArray[np.bool_]:
        """Whether each slice of the sample is labelled COVID-19."""
        return self.material.truth[self.sample]

    @cached_property
    def units(self) -> NDArray[np.intp]:
        """The group of each slice of the sample, numbered from 0."""
        return unit_codes(self.material.units[self.sample].astype(str))

    @cached_property
    def paths(self) -> list[str]:
        """The files of the sample."""
        return [str(path) for path in self.material.paths[self.sample]]

    @cached_property
    def scans(self) -> list[Scan]:
        """The sample in grey, each slice at its own size."""
        preprocessing = self.detector.bundle.facts.preprocessing
        scans = (read_scan(Path(path)) for path in self.paths)
        return [Scan(preprocessing.grey(scan), is_hu=False, scan_id=scan.scan_id) for scan in scans]

    @cached_property
    def segmentations(self) -> list[Segmentation]:
        """Lungs and lesions of the sample; only with a segmenter."""
        if self.segmenter is None:
            raise ValueError("a check that needs lungs must say so in its needs")
        return [found for _, found in self.segmenter.segment_scans(self.scans)]

    @cached_property
    def findings(self) -> list[SliceFinding]:
        """The detector's findings on the sample, with its evidence."""
        return list(self._quick.predict_scans(self.scans))

    @cached_property
    def probability(self) -> NDArray[np.float64]:
        """Calibrated probability of COVID-19 of each slice of the sample."""
        return np.array([finding.network.probability for finding in self.findings])

    def answer(self, pictures: Iterable[Picture]) -> NDArray[np.float64]:
        """Calibrated probability of COVID-19 for each picture; few are held in memory at a time."""
        scans = (Scan(picture, is_hu=False, scan_id="changed") for picture in pictures)
        return np.array([one.network.probability for one in self._quick.predict_scans(scans)])

    @property
    def threshold(self) -> float:
        """Probability from which the verdict is covid."""
        return self.detector.bundle.facts.threshold

    @cached_property
    def _quick(self) -> Detector:
        """The detector without a segmenter, unless it needs one for its answer."""
        return Detector(self.detector.bundle)


def _lungs(trial: Trial) -> str:
    if trial.segmenter is None:
        return "The lungs were not segmented."
    found = any(segmentation.found for segmentation in trial.segmentations)
    return "" if found else "No lungs were found on any slice."


Trial.NEEDS = {
    "two classes": lambda trial: Material.NEEDS["two classes"](trial.material),
    "detector": lambda trial: (
        ""
        if trial.asks
        else "Only predictions are known, so the detector cannot be asked about changed slices."
    ),
    "lungs": _lungs,
    "evidence": lambda trial: (
        "" if trial.findings[0].has_evidence else "The model does not say which areas point to COVID-19."
    ),
}
"""For each need of a check, why the trial does not meet it; "" if it does."""
