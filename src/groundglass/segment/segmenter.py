"""Segmenter: from scans to lungs and lesions, by a bundle."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.bundle.engine import Engine
from groundglass.errors import ScanError
from groundglass.preprocess import Preprocessing
from groundglass.scan.scan import Scan
from groundglass.segment.bundle import SegmenterBundle
from groundglass.segment.masks import Segmentation, resize, segmentation
from groundglass.segment.reading import answer_files


class Segmenter:
    """Finds lungs and lesions on slices by a bundle.

    Parameters
    ----------
    bundle
        The bundle.

    Examples
    --------
    >>> segmenter = Segmenter.load()                               # doctest: +SKIP
    >>> segmenter.segment(read_scan("slice.png")).lungs.any()      # doctest: +SKIP
    """

    def __init__(self, bundle: SegmenterBundle) -> None:
        self.bundle = bundle
        preprocessing = bundle.facts.preprocessing
        shape = (preprocessing.channels, *preprocessing.size)
        self._engine = Engine(bundle.graph, shape, bundle.facts.precision)

    @classmethod
    def load(cls, name_or_path: str | Path | None = None) -> "Segmenter":
        """Load a bundle by name or path, by default the shipped one; raises BundleError as its load does."""
        return cls(SegmenterBundle.load(name_or_path))

    def segment(self, scan: Scan) -> Segmentation:
        """Lungs and lesions of one slice, at its own size; raises ValueError for a volume."""
        return next(self.segment_scans([scan]))[1]

    def segment_scans(self, scans: Iterable[Scan]) -> Iterator[tuple[Scan, Segmentation]]:
        """Lungs and lesions of slices, in their order, each at the slice's own size."""
        facts = self.bundle.facts
        waiting: deque[tuple[Scan, NDArray[np.uint8]]] = deque()

        def inputs() -> Iterator[NDArray[np.float32]]:
            for scan in scans:
                grey8 = facts.preprocessing.grey8(scan)
                waiting.append((scan, grey8))
                yield facts.preprocessing.model_input(grey8[None])[0]

        for (masks,) in self._engine.run(inputs()):
            scan, grey8 = waiting.popleft()
            yield scan, self.finish(masks, grey8, scan)

    def segment_files(
        self, paths: Sequence[Path]
    ) -> Iterator[tuple[Path, tuple[Scan, Segmentation] | ScanError]]:
        """Lungs and lesions of files, in their order; a file that cannot be read gives its error instead."""
        return answer_files(paths, self.segment_scans)

    def finish(self, masks: NDArray[np.float32], grey8: NDArray[np.uint8], scan: Scan) -> Segmentation:
        """From the network's answer to the masks of a slice.

        Parameters
        ----------
        masks
            float32, shape (2, height, width) of the input: probabilities of lung and of lesion.
        grey8
            uint8, shape (height, width): the input that they answer to.
        scan
            The slice.
        """
        facts = self.bundle.facts
        box = facts.preprocessing.box(*scan.pixels.shape)
        inner = box.slices
        grey = grey8[inner].astype(np.float32) / np.float32(255)
        small = segmentation(masks[0][inner], masks[1][inner], grey, facts.post_processing)
        return resize(small, scan.pixels.shape)


def segmenter_for(preprocessing: Preprocessing) -> Segmenter | None:
    """The segmenter that a preprocessing needs; None where it looks at whole slices.

    Raises
    ------
    BundleError
        If there is none of that name.
    """
    return Segmenter.load(preprocessing.segmenter) if preprocessing.lungs != "none" else None
