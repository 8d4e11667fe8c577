"""What the checks of a detector see: the detector, labelled scans, and its answers to them, changed or not."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.material import Material
from groundglass.detect.detector import Detector, SliceFinding
from groundglass.evaluate.predictions import unit_codes
from groundglass.scan.find import read_scan
from groundglass.scan.scan import Scan
from groundglass.segment.masks import Segmentation
from groundglass.segment.segmenter import Segmenter

SAMPLE = 400
"""Slices that are changed and answered again; more are drawn down to so many, classes in their shares."""


@dataclass
class Trial:
    """A detector on labelled scans; whatever takes long is looked up once.

    Attributes
    ----------
    detector
        The detector; what it says of the whole scans is in ``predictions``.
    material
        The scans, as the checks of data see them.
    predictions
        Its answers to all of ``material``, in the same order, in the form of groundglass.evaluate.predictions.
    segmenter
        Finds the lungs that are removed or kept; None leaves these checks out.
    external
        Whether no source of the scans was trained on.
    part
        The part of the dataset: ``train``, ``val``, ``test`` or ``all``.
    """

    detector: Detector
    material: Material
    predictions: pd.DataFrame
    segmenter: Segmenter | None
    external: bool
    part: str

    NEEDS: ClassVar[dict[str, Callable[["Trial"], str]]]

    @cached_property
    def sample(self) -> NDArray[np.intp]:
        """Places in ``material`` of the slices that are changed, rising."""
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
        """What the detector says of the sample, with its evidence."""
        return list(self._quick.predict_scans(self.scans))

    @cached_property
    def probability(self) -> NDArray[np.float64]:
        """Calibrated probability of COVID-19 of each slice of the sample."""
        return np.array([finding.probability for finding in self.findings])

    def answer(self, scans: Iterable[Scan]) -> NDArray[np.float64]:
        """Calibrated probability of COVID-19 of each of some scans."""
        return np.array([finding.probability for finding in self._quick.predict_scans(scans)])

    @property
    def threshold(self) -> float:
        """Probability from which on the verdict is covid."""
        return self.detector.bundle.facts.threshold

    @cached_property
    def _quick(self) -> Detector:
        """The detector without a segmenter that it does not need for its answer."""
        return Detector(self.detector.bundle)


def grey_scans(pictures: Sequence[NDArray[np.float32]]) -> list[Scan]:
    """Pictures in [0, 1], float32 (height, width), as scans."""
    return [Scan(picture, is_hu=False, scan_id="changed") for picture in pictures]


def _two_classes(trial: Trial) -> str:
    return Material.NEEDS["two classes"](trial.material)


def _lungs(trial: Trial) -> str:
    if trial.segmenter is None:
        return "Lungs were not looked for."
    found = any(segmentation.found for segmentation in trial.segmentations)
    return "" if found else "No lungs were found on any slice."


Trial.NEEDS = {"two classes": _two_classes, "lungs": _lungs}
