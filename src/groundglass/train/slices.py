"""Decoded slices in memory: read once, cached on disk, served in batches."""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_path
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from groundglass.errors import GroundglassError, ScanError
from groundglass.files import replacing
from groundglass.preprocess import Preprocessing
from groundglass.scan.scan import Scan
from groundglass.segment.segmenter import Segmenter, answer_files

CACHE_VARIABLE = "GROUNDGLASS_CACHE"


def decode(
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    segmenter: Segmenter | None = None,
    *,
    show_progress: bool = False,
) -> NDArray[np.uint8]:
    """Decode slices to 8-bit grey, or take them from the cache of an earlier call.

    The cache lies in the folder GROUNDGLASS_CACHE, by default the user's cache folder; a changed file, other
    preprocessing, another segmenter or another version of Groundglass makes a new entry.

    Parameters
    ----------
    paths
        The slices.
    preprocessing
        What they go through.
    segmenter
        Finds the lungs, where the preprocessing needs them; a slice on which it finds none is left as it is.
    show_progress
        Draw a progress bar.

    Returns
    -------
    uint8, shape (slices, height, width), in the order of ``paths``.

    Raises
    ------
    GroundglassError
        If any file cannot be read; the message names the first five.
    """
    entry = _cache_folder() / f"{_key(paths, preprocessing, segmenter)}.npy"
    if entry.exists():
        try:
            return np.load(entry)
        except (ValueError, OSError):
            entry.unlink(missing_ok=True)
    grey, failures = _read_all(paths, preprocessing, segmenter, show_progress)
    if failures:
        listed = "\n".join(f"  {failure}" for failure in failures[:5])
        more = f"\n  and {len(failures) - 5} more" if len(failures) > 5 else ""
        raise GroundglassError(f"{len(failures)} of {len(paths)} slices cannot be read:\n{listed}{more}")
    with replacing(entry, "wb") as handle:
        np.save(handle, grey)
    return grey


def _read_all(
    paths: Sequence[Path], preprocessing: Preprocessing, segmenter: Segmenter | None, show_progress: bool
) -> tuple[NDArray[np.uint8], list[ScanError]]:
    def prepare(scans: Iterable[Scan]) -> Iterator[NDArray[np.uint8]]:
        if segmenter is None:
            return (preprocessing.grey8(scan) for scan in scans)
        found = segmenter.segment_scans(scans)
        return (preprocessing.grey8(scan, segmentation.trusted_lungs) for scan, segmentation in found)

    grey = np.zeros((len(paths), *preprocessing.size), dtype=np.uint8)
    failures: list[ScanError] = []
    results = track(
        answer_files(paths, prepare),
        "Decoding slices",
        total=len(paths),
        disable=not show_progress,
        transient=True,
    )
    for row, (_, result) in enumerate(results):
        if isinstance(result, ScanError):
            failures.append(result)
        else:
            grey[row] = result
    return grey, failures


def _cache_folder() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    return (Path(named).expanduser() if named else user_cache_path("groundglass")) / "slices"


def _key(paths: Sequence[Path], preprocessing: Preprocessing, segmenter: Segmenter | None) -> str:
    from groundglass import __version__

    digest = hashlib.sha256(f"{__version__} {preprocessing.model_dump_json()}".encode())
    if segmenter is not None:
        facts = segmenter.bundle.facts
        digest.update(f"{facts.graph_sha256} {facts.post_processing.model_dump_json()}".encode())
    for path in paths:
        try:
            state = path.stat()
        except OSError as error:
            raise GroundglassError(f"{path}: cannot be read ({error.strerror})") from error
        digest.update(f"{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


class Slices(Dataset[tuple[Tensor, Tensor]]):
    """Decoded slices and their truth, indexed by a whole batch at a time.

    Parameters
    ----------
    grey
        uint8, shape (slices, height, width).
    target
        int64, shape (slices,): the number of each slice's class, 1 for covid where there is one logit.
    """

    def __init__(self, grey: NDArray[np.uint8], target: NDArray[np.int64]) -> None:
        self.grey = torch.from_numpy(grey)
        self.target = torch.from_numpy(target)

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        return self.grey[rows], self.target[rows]


class EpochSampler(Sampler[list[int]]):
    """Batches of row numbers whose order depends on the epoch's number."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; Lightning calls this."""
        self.epoch = epoch


class Batches(EpochSampler):
    """Batches of row numbers; shuffled anew each epoch from the seed and the epoch's number alone.

    That makes an epoch the same whether the run reached it in one go or was resumed there. An incomplete last
    batch of one slice is joined to the one before, since batch normalisation cannot train on one.

    Parameters
    ----------
    count, size
        Number of slices, and of those in a batch.
    seed
        Shuffle by it; in order where there is none.
    steps
        Batches of an epoch, which goes through the slices as often as these need; by default once.
    """

    def __init__(self, count: int, size: int, *, seed: int | None = None, steps: int | None = None) -> None:
        self.count = count
        self.steps = steps
        self.size = size
        self.seed = seed

    def _starts(self) -> list[int]:
        starts = list(range(0, self.count, self.size))
        if self.count - starts[-1] == 1 and len(starts) > 1:
            starts.pop()
        return starts

    def __len__(self) -> int:
        return len(self._starts()) if self.steps is None else self.steps

    def __iter__(self) -> Iterator[list[int]]:
        # A generator: the epoch is looked at with the first batch, when Lightning has set it also after a resume.
        generator = None if self.seed is None else np.random.default_rng((self.seed, self.epoch))
        rounds = itertools.count() if self.steps is not None else range(1)
        yield from itertools.islice((rows for _ in rounds for rows in self._round(generator)), len(self))

    def _round(self, generator: np.random.Generator | None) -> Iterator[list[int]]:
        """The batches of once through all slices."""
        order = np.arange(self.count)
        if generator is not None:
            generator.shuffle(order)
        starts = self._starts()
        for start, stop in zip(starts, [*starts[1:], self.count], strict=True):
            yield order[start:stop].tolist()


def make_loader(
    slices: Slices, batch_size: int, *, seed: int | None = None, steps: int | None = None
) -> DataLoader[tuple[Tensor, Tensor]]:
    """A loader over slices in memory: in order, or shuffled where a seed is given; see :class:`Batches`."""
    sampler = Batches(len(slices), batch_size, seed=seed, steps=steps)
    return DataLoader(slices, batch_size=None, sampler=sampler)
