"""Segmenter: finds lungs and lesions on scans. Also its bundle, and reading of files ahead of the networks."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from groundglass.bundle.engine import Engine, Precision
from groundglass.bundle.evaluation import OverlapEvaluation
from groundglass.bundle.facts import Facts, card, describe_input
from groundglass.bundle.store import StoredBundle, shipped_bundles
from groundglass.errors import ScanError
from groundglass.preprocess import Preprocessing
from groundglass.scan.read import ScanLike, read, read_scan
from groundglass.scan.scan import Scan
from groundglass.scan.volume import Volume
from groundglass.segment.masks import PostProcessing, Segmentation, resize, segmentation

if TYPE_CHECKING:
    from groundglass.segment.volume import VolumeMasks

Answer = TypeVar("Answer")
Item = TypeVar("Item")


LUNGS_AND_LESIONS = ("lungs", "lesions")
LUNGS_AND_TYPES = ("lungs", "ground glass", "consolidation")


class SegmenterFacts(Facts):
    """The content of a segmenter's ``bundle.json``.

    Attributes
    ----------
    outputs
        What each output channel of the network marks: lungs and lesions of either type, or lungs, ground
        glass and consolidation. Lesions are part of the lungs. The probabilities of the two types add up to
        that of a lesion.
    precision
        The numeric precision in which the network runs, if the processor supports it.
    post_processing
        The parameters that turn its probabilities into masks.
    """

    kind: Literal["segmenter"] = "segmenter"
    outputs: tuple[str, ...] = LUNGS_AND_LESIONS
    precision: Precision = "f32"
    post_processing: PostProcessing = PostProcessing()
    validation: OverlapEvaluation | None = None

    @property
    def typed(self) -> bool:
        """Whether it distinguishes ground glass from consolidation."""
        return self.outputs == LUNGS_AND_TYPES


@dataclass(repr=False)
class SegmenterBundle(StoredBundle[SegmenterFacts]):
    """A segmenter's bundle, read from disk."""

    kind: ClassVar[str] = "segmenter"
    default: ClassVar[str] = "lungs-lite0"
    facts_type: ClassVar[type[Facts]] = SegmenterFacts

    @classmethod
    def is_shipped(cls, name: str) -> bool:
        """Whether a segmenter of this name is part of the package."""
        return name in shipped_bundles(cls.kind)

    @classmethod
    def card_of(cls, facts: SegmenterFacts) -> str:
        """The model card of these facts, as Markdown."""
        rules = facts.post_processing
        types = "distinguished" if facts.typed else "not distinguished"
        what_it_does = [
            "It takes an axial chest CT slice and marks the lungs, including their lesions, and the lesions"
            f" (ground-glass opacity and consolidation, {types}, whatever their cause). If it finds no lungs,"
            " it reports that the picture is not a chest CT, and why.",
            "",
            f"- Input: {describe_input(facts)}",
            f"- Thresholds on the probabilities: lungs {rules.lung_threshold:g},"
            f" lesions {rules.lesion_threshold:g}",
            f"- Computed in {facts.precision}, if the processor supports it",
        ]
        note = "95% intervals by bootstrap over cases. Distances are in pixels of the slice."
        return card(facts, what_it_does, positive="COVID-19", validation_note=note)


class Segmenter:
    """Finds lungs and lesions on slices and volumes with a bundle.

    Parameters
    ----------
    bundle
        The bundle.

    Examples
    --------
    >>> from groundglass import make_phantom
    >>> masks = Segmenter.load()(make_phantom(2, shape=(20, 160, 160)).scan)  # or ("patient/")
    >>> masks.lungs.shape
    (20, 160, 160)
    >>> masks.extent()["both"].lesion_share < 0.01
    True
    """

    def __init__(self, bundle: SegmenterBundle) -> None:
        self.bundle = bundle
        preprocessing = bundle.facts.preprocessing
        shape = (preprocessing.channels, *preprocessing.size)
        self._engine = Engine(bundle.graph, shape, bundle.facts.precision)

    @classmethod
    def load(cls, name_or_path: str | Path | None = None) -> "Segmenter":
        """Load a bundle by name or path, by default the shipped one; raises BundleError if it cannot be loaded."""
        return cls(SegmenterBundle.load(name_or_path))

    def __reduce__(self) -> tuple[Any, ...]:
        """Engines are not copied to another process, which loads the bundle's engine again."""
        return type(self), (self.bundle,)

    def __repr__(self) -> str:
        return f"Segmenter({self.bundle.facts.name!r})"

    @overload
    def __call__(self, scan: Scan, *, spacing: None = None) -> Segmentation: ...

    @overload
    def __call__(self, scan: Volume, *, spacing: None = None) -> "VolumeMasks": ...

    @overload
    def __call__(
        self, scan: ScanLike, *, spacing: Sequence[float] | None = None
    ) -> "Segmentation | VolumeMasks": ...

    def __call__(
        self, scan: ScanLike, *, spacing: Sequence[float] | None = None
    ) -> "Segmentation | VolumeMasks":
        """Find the lungs and lesions of a slice or a volume.

        Parameters
        ----------
        scan, spacing
            A path, an array, or another library's image, as groundglass.read takes them.

        Returns
        -------
        For a slice a Segmentation at the slice's size, for a volume its VolumeMasks. Both have ``lungs``
        (uint8, 1 in the right and 2 in the left lung), ``lesions`` (bool) and ``picture()``; VolumeMasks also
        has ``extent()`` in ml.

        Raises
        ------
        ScanError
            If the scan cannot be read, or too many slices of the volume are damaged.
        """
        opened = read(scan, spacing=spacing)
        if isinstance(opened, Volume):
            from groundglass.segment.volume import VolumeMasks

            masks = VolumeMasks(opened, self.bundle.facts.preprocessing)
            return masks.filled_by(self)
        found = next(self.segment_scans([opened]))[1]
        return replace(found, grey8=self.bundle.facts.preprocessing.picture(opened))

    def segment_scans(self, scans: Iterable[Scan]) -> Iterator[tuple[Scan, Segmentation]]:
        """Lungs and lesions of slices, in their order, each at the slice's own size."""
        for _, scan, found in self.segment_read((None, scan) for scan in scans):
            if found is not None and not isinstance(scan, ScanError):
                yield scan, found

    def segment_files(
        self, paths: Sequence[Path]
    ) -> Iterator[tuple[Path, tuple[Scan, Segmentation] | ScanError]]:
        """Lungs and lesions of files, in their order; a file that cannot be read gives its error instead."""
        for path, scan, found in self.segment_read(read_ahead(paths, read_scan)):
            if isinstance(scan, ScanError):
                yield path, scan
            elif found is not None:
                yield path, (scan, found)

    def segment_read(
        self, read: Iterable[tuple[Item, Scan | ScanError]]
    ) -> Iterator[tuple[Item, Scan | ScanError, Segmentation | None]]:
        """Lungs and lesions of the scans that :func:`read_ahead` yields, in the same order.

        An error keeps its place in the order, with None as its segmentation.
        """
        preprocessing = self.bundle.facts.preprocessing

        def inputs() -> Iterator[tuple[Any, NDArray[np.float32] | None]]:
            for item, scan in read:
                if isinstance(scan, ScanError):
                    yield (item, scan, None), None
                else:
                    grey8 = preprocessing.grey8(scan)
                    yield (item, scan, grey8), preprocessing.model_input(grey8[None])[0]

        for (item, scan, grey8), outputs in self._engine.stream(inputs()):
            yield item, scan, None if outputs is None else self.finish(outputs[0], grey8, scan)

    def each(self, work: Callable[["Segmenter", Item], Answer], items: Sequence[Item]) -> Iterator[Answer]:
        """What ``work`` gives for this segmenter and each item, in their order."""
        return (work(self, item) for item in items)

    def finish(self, masks: NDArray[np.float32], grey8: NDArray[np.uint8], scan: Scan) -> Segmentation:
        """Turn the network's output into the masks of a slice.

        Parameters
        ----------
        masks
            float32, shape (outputs, height, width) of the input: the probabilities of the bundle's outputs.
        grey8
            uint8, shape (height, width): the input.
        scan
            The slice.
        """
        facts = self.bundle.facts
        box = facts.preprocessing.box(*scan.pixels.shape)
        inner = box.slices
        grey = grey8[inner].astype(np.float32) / np.float32(255)
        inside = masks[(slice(None), *inner)]
        own = facts.preprocessing.grey(scan)
        plain = cv2.resize(own, (box.width, box.height), interpolation=cv2.INTER_AREA).astype(np.float32)
        lesion = inside[1:].sum(axis=0)
        small = segmentation(inside[0], lesion, grey, facts.post_processing, plain)
        if facts.typed:
            small = replace(small, consolidation=small.lesions & (inside[2] > inside[1]))
        return resize(small, scan.pixels.shape)


def segmenter_for(preprocessing: Preprocessing) -> Segmenter | None:
    """The segmenter that a preprocessing needs; None if it uses whole slices.

    Raises
    ------
    BundleError
        If there is none of that name.
    """
    return Segmenter.load(preprocessing.segmenter) if preprocessing.lungs != "none" else None


READERS = 2
AHEAD = 8
"""Number of slices read ahead of the engine: enough to keep it busy, few enough to save memory."""


def answer_files(
    paths: Sequence[Path], answer: Callable[[Iterable[Scan]], Iterator[Answer]]
) -> Iterator[tuple[Path, Answer | ScanError]]:
    """Answers for files, in their order; an unreadable file yields its error and does not stop the rest.

    Parameters
    ----------
    paths
        The files.
    answer
        Returns one answer per scan, in their order.
    """
    outcomes: deque[tuple[Path, ScanError | None]] = deque()

    def scans() -> Iterator[Scan]:
        for path, scan in read_ahead(paths, read_scan):
            if isinstance(scan, ScanError):
                outcomes.append((path, scan))
            else:
                outcomes.append((path, None))
                yield scan

    def failures() -> Iterator[tuple[Path, ScanError]]:
        while outcomes and (error := outcomes[0][1]) is not None:
            yield outcomes.popleft()[0], error

    for one in answer(scans()):
        yield from failures()
        yield outcomes.popleft()[0], one
        yield from failures()
    yield from failures()


def read_ahead(
    items: Iterable[Item], read: Callable[[Item], Scan]
) -> Iterator[tuple[Item, Scan | ScanError]]:
    """Scans in the order of ``items``, read by threads that run ahead; one that cannot be read gives its error."""

    def attempt(item: Item) -> Scan | ScanError:
        try:
            return read(item)
        except ScanError as error:
            return error

    with ThreadPoolExecutor(READERS) as pool:
        ahead: deque[tuple[Item, Future[Scan | ScanError]]] = deque()
        for item in items:
            ahead.append((item, pool.submit(attempt, item)))
            if len(ahead) > AHEAD:
                first, future = ahead.popleft()
                yield first, future.result()
        for first, future in ahead:
            yield first, future.result()
