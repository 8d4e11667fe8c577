"""Detector: applies a bundle to scans and returns findings."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from groundglass.bundle.engine import Outputs
from groundglass.detect.bundle import Bundle
from groundglass.detect.findings import SliceFinding, SliceView
from groundglass.errors import BundleError, ScanError
from groundglass.preprocess import Box, Preprocessing
from groundglass.scan.read import ScanLike, read, read_scan
from groundglass.scan.scan import Scan
from groundglass.scan.volume import Volume
from groundglass.segment.masks import Segmentation
from groundglass.segment.segmenter import Segmenter, read_ahead
from groundglass.segment.shares import consolidation_counts, counts, label_plane

if TYPE_CHECKING:
    from groundglass.detect.own_model import Predict
    from groundglass.detect.patient import PatientFinding

Item = TypeVar("Item")


class Detector:
    """Detects COVID-19 on slices and volumes with a bundle.

    Parameters
    ----------
    bundle
        The bundle.
    segmenter
        Finds lungs and lesions, for the lesion share and the verdict ``not a chest CT``; None leaves them
        out. A bundle that uses only the lungs has its own segmenter.

    Examples
    --------
    >>> from groundglass import make_phantom
    >>> detector = Detector.load()
    >>> finding = detector(make_phantom(2, shape=(20, 160, 160)).scan)  # or detector("patient/")
    >>> finding.verdict
    'not covid'
    >>> finding.lesion_share < 0.01
    True
    """

    def __init__(self, bundle: Bundle, segmenter: Segmenter | None = None) -> None:
        self.bundle = bundle
        self.segmenter = segmenter if bundle.segmenter is None else Segmenter(bundle.segmenter)
        self._engine = bundle.engine()

    @classmethod
    def load(
        cls,
        name_or_path: str | Path | None = None,
        *,
        lungs: bool = True,
        setting: str | None = None,
        pretest: float | None = None,
    ) -> "Detector":
        """Load a bundle by name or path, by default the shipped one.

        Parameters
        ----------
        name_or_path
            A shipped bundle's name, a folder, a zip, or an ONNX file with a description beside it.
        lungs
            Look for lungs and lesions with the shipped segmenter, if the bundle has none of its own.
        setting
            The setting in which it answers (groundglass.detect.setting.CONTROLS); None for the bundle's default.
        pretest
            A probability of COVID-19 before the scan, in (0, 1), to add a post-test probability to findings. The
            verdict does not depend on it.

        Raises
        ------
        BundleError
            As Bundle.load does, and if the bundle does not know the setting.
        """
        bundle = Bundle.load(name_or_path)
        if setting is not None or pretest is not None:
            bundle.facts = bundle.facts.in_setting(setting or bundle.facts.setting, pretest)
        if not lungs or bundle.segmenter is not None:
            return cls(bundle)
        with ThreadPoolExecutor(1) as pool:  # the two networks are compiled in parallel
            segmenter = pool.submit(Segmenter.load)
            detector = cls(bundle)
            detector.segmenter = segmenter.result()
        return detector

    @classmethod
    def of_function(
        cls, predict: "Predict", preprocessing: Preprocessing, *, lungs: bool = True, **further: Any
    ) -> "Detector":
        """Make a detector from a Python function, such as a model from another library (docs/own-model.md).

        Parameters
        ----------
        predict
            Takes float32, shape (slices, channels, height, width), and returns shape (slices,) or (slices,
            classes).
        preprocessing
            How a slice becomes the function's input.
        lungs
            As in :meth:`load`.
        further
            As in :class:`groundglass.detect.own_model.Description`; by default the function ``gives``
            "probabilities" of ``classes`` ("not covid", "covid").

        Raises
        ------
        BundleError
            If a description is not valid.

        Examples
        --------
        >>> grey = Preprocessing(size=(64, 64), channels=1, mean=0, std=1)
        >>> detector = Detector.of_function(lambda slices: slices.mean(axis=(1, 2, 3)), grey, name="brightness")
        """
        from groundglass.detect.own_model import Description, OwnModel

        stated = {"gives": "probabilities", "name": "my-model", "preprocessing": preprocessing, **further}
        bundle = OwnModel.of_function(predict, Description.checked(stated, str(stated["name"])))
        return cls(bundle, Segmenter.load() if lungs and bundle.segmenter is None else None)

    def __reduce__(self) -> tuple[Any, ...]:
        """Engines are not copied to another process, which loads the bundle's engine again."""
        return type(self), (self.bundle, None if self.bundle.segmenter is not None else self.segmenter)

    def __repr__(self) -> str:
        return f"Detector({self.bundle.facts.name!r})"

    @overload
    def __call__(self, scan: Scan, *, spacing: None = None) -> SliceFinding: ...

    @overload
    def __call__(self, scan: Volume, *, spacing: None = None) -> "PatientFinding": ...

    @overload
    def __call__(
        self, scan: ScanLike, *, spacing: Sequence[float] | None = None
    ) -> "SliceFinding | PatientFinding": ...

    def __call__(
        self, scan: ScanLike, *, spacing: Sequence[float] | None = None
    ) -> "SliceFinding | PatientFinding":
        """Return the finding for a slice, or for the patient if the scan is a volume.

        Parameters
        ----------
        scan, spacing
            A path, an array, or another library's image, as groundglass.read takes them.

        Raises
        ------
        ScanError
            If the scan cannot be read, holds several studies, or too many slices of the volume are damaged.
        GroundglassError
            If a volume is given to a detector without a segmenter.
        """
        opened = read(scan, spacing=spacing)
        if isinstance(opened, Volume):
            from groundglass.detect.volume import answer_volume

            return answer_volume(self, opened)
        return next(self.predict_scans([opened]))

    def predict_scans(self, scans: Iterable[Scan]) -> Iterator[SliceFinding]:
        """Findings for slices, in their order."""
        for _, finding in self.predict_read((None, scan) for scan in scans):
            if not isinstance(finding, ScanError):
                yield finding

    def predict_files(self, paths: Sequence[Path]) -> Iterator[tuple[Path, SliceFinding | ScanError]]:
        """Findings for files, in their order; a file that cannot be read gives its error instead.

        Threads read files ahead while the networks compute.
        """
        return self.predict_read(read_ahead(paths, read_scan))

    def predict_read(
        self, read: Iterable[tuple[Item, Scan | ScanError]]
    ) -> Iterator[tuple[Item, SliceFinding | ScanError]]:
        """Findings for what groundglass.segment.segmenter.read_ahead yields, in the same order."""
        if self.segmenter is None:
            return self.predict_segmented((item, scan, None) for item, scan in read)
        return self.predict_segmented(self.segmenter.segment_read(read))

    def predict_segmented(
        self, segmented: Iterable[tuple[Item, Scan | ScanError, Segmentation | None]]
    ) -> Iterator[tuple[Item, SliceFinding | ScanError]]:
        """Findings for what Segmenter.segment_read yields, in the same order; an error keeps its place."""
        preprocessing = self.bundle.facts.preprocessing

        def inputs() -> Iterator[tuple[Any, NDArray[np.float32] | None]]:
            for item, scan, segmentation in segmented:
                if isinstance(scan, ScanError):
                    yield (item, scan, None, None), None
                    continue
                lungs = segmentation.trusted_lungs if segmentation is not None else None
                height, width = scan.pixels.shape
                region = preprocessing.region(height, width, lungs)
                yield (item, scan, region, segmentation), preprocessing(scan, lungs)

        for (item, scan, region, segmentation), outputs in self._engine.stream(inputs()):
            if outputs is None:
                yield item, scan
            else:
                yield item, self._finding(outputs, scan, region, segmentation)

    def _finding(
        self, outputs: Outputs, scan: Scan, region: Box, segmentation: Segmentation | None
    ) -> SliceFinding:
        logits, evidence = (*outputs, None) if len(outputs) == 1 else outputs[:2]
        if np.isnan(logits).any():
            raise BundleError(
                f"{self.bundle.source}: answered {scan.source or scan.scan_id} with NaN (not a number); "
                f"check "
                "its weights and preprocessing"
            )
        lesions = None if segmentation is None else segmentation.lesion_probability
        finding = replace(
            self.bundle.facts.answer(logits, lesions),
            path=str(scan.source or ""),
            patient=scan.patient or "",
            warnings="; ".join(scan.warnings),
            view=SliceView(evidence, region, self.bundle.facts.preprocessing, scan, segmentation),
        )
        if segmentation is None:
            return finding
        if not segmentation.found:
            return finding.refused(segmentation.problem)
        plane = label_plane(segmentation)
        lungs_px, lesions_px = counts(plane)
        solid = None if segmentation.consolidation is None else consolidation_counts(plane)
        return replace(finding, lungs_px=lungs_px, lesions_px=lesions_px, consolidation_px=solid)
