"""Decoded slices in memory: read once, cached on disk, loaded in batches."""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_path
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from groundglass.errors import GroundglassError, ScanError
from groundglass.files import replacing
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.preprocess import Preprocessing
from groundglass.recipe.parts import Recipe
from groundglass.scan.scan import Scan
from groundglass.segment.segmenter import Segmenter, answer_files, segmenter_for

CACHE_VARIABLE = "GROUNDGLASS_CACHE"
DECODING_FORMAT = 2
"""Increase this whenever reading, segmenting or preprocessing can give different greys than before.

It is part of the cache's key, so that no run trains on slices that an earlier version decoded differently.
"""


@dataclass(frozen=True)
class PartData:
    """The decoded slices of one part.

    Attributes
    ----------
    rows
        The manifest's rows.
    grey
        uint8, shape (slices, height, width).
    target
        int64, shape (slices,): the number of each slice's class among ``classes``.
    classes
        Controls and covid, or the recipe's several classes.
    """

    rows: pd.DataFrame
    grey: NDArray[np.uint8]
    target: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Whether each slice is labelled covid: bool, shape (slices,)."""
        return self.target == self.classes.index(POSITIVE)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of slices of each class."""
        return np.bincount(self.target, minlength=len(self.classes))


def load_part(manifest: pd.DataFrame, part: str, recipe: Recipe, *, show_progress: bool = False) -> PartData:
    """Decode one part (``train``, ``val`` or ``test``) of a manifest.

    Raises
    ------
    GroundglassError
        If the part lacks one of the classes, or a slice cannot be read.
    """
    rows = manifest[manifest["split"] == part].reset_index(drop=True)
    labels = recipe.data.classes_of(rows["label"])
    classes = recipe.data.several or (NEGATIVE, POSITIVE)
    counts = labels.value_counts().reindex(classes, fill_value=0)
    if (counts == 0).any():
        listed = ", ".join(f"{number} '{name}'" for name, number in counts.items())
        raise GroundglassError(f"the {part} set holds {listed}; slices of each are needed")
    target = pd.Categorical(labels, categories=classes).codes.astype(np.int64)
    segmenter = segmenter_for(recipe.preprocessing)
    grey = np.zeros((len(rows), *recipe.preprocessing.size), dtype=np.uint8)
    # Sources are cached separately, so that a run that leaves one out reuses the rest.
    for numbers in rows.groupby("source").indices.values():
        paths = [Path(path) for path in rows["path"].iloc[numbers]]
        grey[numbers] = decode(paths, recipe.preprocessing, segmenter, show_progress=show_progress)
    return PartData(rows, grey, target, classes)


def decode(
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    segmenter: Segmenter | None = None,
    *,
    show_progress: bool = False,
) -> NDArray[np.uint8]:
    """Decode slices to 8-bit grey, or take them from the cache of an earlier call.

    The cache is in the folder GROUNDGLASS_CACHE, by default the user's cache folder. A changed file, different
    preprocessing, another segmenter or a new :data:`DECODING_FORMAT` makes a new entry.

    Parameters
    ----------
    paths
        The slices.
    preprocessing
        Applied to each slice.
    segmenter
        Finds the lungs, if the preprocessing needs them; a slice without lungs is not changed.
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
    grey = _read_slices(paths, preprocessing, segmenter, show_progress)
    with replacing(entry, "wb") as handle:
        np.save(handle, grey)
    return grey


def _read_slices(
    paths: Sequence[Path], preprocessing: Preprocessing, segmenter: Segmenter | None, show_progress: bool
) -> NDArray[np.uint8]:
    """Decode slices as :func:`decode` does, without the cache."""

    def prepare(scans: Iterable[Scan]) -> Iterator[NDArray[np.uint8]]:
        if segmenter is None:
            yield from (preprocessing.grey8(scan, None) for scan in scans)
        else:
            for scan, found in segmenter.segment_scans(scans):
                yield preprocessing.grey8(scan, found.trusted_lungs)

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
    if failures:
        listed = "\n".join(f"  {failure}" for failure in failures[:5])
        more = f"\n  and {len(failures) - 5} more" if len(failures) > 5 else ""
        raise GroundglassError(f"{len(failures)} of {len(paths)} slices cannot be read:\n{listed}{more}")
    return grey


def _cache_folder() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    return (Path(named).expanduser() if named else user_cache_path("groundglass")) / "slices"


def _key(paths: Sequence[Path], preprocessing: Preprocessing, segmenter: Segmenter | None) -> str:
    digest = hashlib.sha256(f"{DECODING_FORMAT} {preprocessing.model_dump_json()}".encode())
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


class Slices(Dataset[tuple[Tensor, ...]]):
    """Arrays with one row per slice, indexed by a whole batch of row numbers at a time.

    Parameters
    ----------
    arrays
        Such as uint8 greys, shape (slices, height, width), and int64 class numbers, shape (slices,).
    """

    def __init__(self, *arrays: NDArray[np.generic]) -> None:
        self.tensors = tuple(torch.from_numpy(array) for array in arrays)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, ...]:
        return tuple(tensor[rows] for tensor in self.tensors)


class Batches(Sampler[list[int]]):
    """Batches of row numbers; each epoch's order depends only on the seed and the epoch's number.

    An epoch is therefore the same whether or not the run was resumed before it. A last batch of one slice is
    joined to the previous one, because batch normalisation cannot train on a single slice. If several devices
    train, each takes its part of each shuffled batch; ordered batches, used for validation, are the same for
    all.

    Parameters
    ----------
    count, size
        Number of slices in total and per batch.
    seed
        Seed of the order; without one, rows keep their order.
    steps
        Number of batches in an epoch, which repeats the slices as needed; by default one pass.
    """

    epoch = 0

    def __init__(self, count: int, size: int, *, seed: int | None = None, steps: int | None = None) -> None:
        self.count = count
        self.steps = steps
        self.size = size
        self.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that determines the next order; Lightning calls this."""
        self.epoch = epoch

    def _starts(self) -> list[int]:
        starts = list(range(0, self.count, self.size))
        if self.count - starts[-1] < 2 * self._devices()[1] and len(starts) > 1:
            starts.pop()
        return starts

    def _devices(self) -> tuple[int, int]:
        """The index of this device, from 0, and the number of devices; one if batches are in order."""
        if self.seed is None or not torch.distributed.is_initialized():
            return 0, 1
        return torch.distributed.get_rank(), torch.distributed.get_world_size()

    def __len__(self) -> int:
        return len(self._starts()) if self.steps is None else self.steps

    def __iter__(self) -> Iterator[list[int]]:
        # A generator: the epoch is read with the first batch, when Lightning has set it, also after a resume.
        generator = None if self.seed is None else np.random.default_rng((self.seed, self.epoch))
        rounds = itertools.count() if self.steps is not None else range(1)
        yield from itertools.islice((rows for _ in rounds for rows in self._round(generator)), len(self))

    def _round(self, generator: np.random.Generator | None) -> Iterator[list[int]]:
        """The batches of one pass over all slices."""
        order = np.arange(self.count)
        if generator is not None:
            generator.shuffle(order)
        starts, (device, devices) = self._starts(), self._devices()
        for start, stop in zip(starts, [*starts[1:], self.count], strict=True):
            yield order[start:stop][device::devices].tolist()


def make_loader(
    slices: Slices, batch_size: int, *, seed: int | None = None, steps: int | None = None
) -> DataLoader[tuple[Tensor, ...]]:
    """A loader over slices in memory: in order, or shuffled if a seed is given; see :class:`Batches`."""
    sampler = Batches(len(slices), batch_size, seed=seed, steps=steps)
    return DataLoader(slices, batch_size=None, sampler=sampler)
