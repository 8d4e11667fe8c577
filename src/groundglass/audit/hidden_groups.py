"""Guess groups that a manifest does not name from the order of the files and the similarity of neighbours."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.near_duplicates import DuplicatePair, clusters
from groundglass.scan.find import natural_key
from groundglass.similarity import small_pictures, unit_vectors

SIDE = 32
"""Height and width of the pictures on which neighbours are compared."""
REACH = 2
"""How many slices ahead each slice is compared: a single odd slice does not end a run."""
CHANCE = 0.10
"""At most this share of the pairs that are far apart may be similar enough to be chained as neighbours.

Groups that are too large only cost folds, but groups that are too small let leakage through. With 0.1, 84% of
the slices of covid-ct belong to a patient who is entirely in one group; with 0.05, 72%; with 0.01, 56%, and
then phantoms are divided too.
"""
SLACK = 0.01
"""The lowest threshold is used that separates neighbours from pairs far apart nearly as well as the best one."""
EVIDENCE = 0.10
"""Share of the neighbours that must be chained beyond chance; with less, the order of the files is meaningless."""
APART = 50
"""Two slices of a class are far apart at this distance or more in the order of the files, or at a third of the
class if that is less."""
LEAST = 30
"""With fewer slices of a class from one source, too few pairs are far apart."""
DRAWS = 10_000
"""Number of pairs drawn for each class of a source."""
Floats = NDArray[np.float32]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class HiddenGroups:
    """A guess at which slices belong together.

    Attributes
    ----------
    groups
        The guessed group of each slice, numbered from 0, shape (slices,).
    threshold
        The likeness above which neighbours in the slice's source were chained, float64, shape (slices,);
        infinite if there are too few slices, or if neighbours are no more alike than any other pair.
    neighbours, repeats
        Indices of the pairs of slices that formed the groups: neighbours in the order of the files, and pairs
        that show the same picture; both of shape (pairs, 2).
    """

    groups: Places
    threshold: NDArray[np.float64]
    neighbours: Places
    repeats: Places

    @property
    def sizes(self) -> Places:
        """Slices of each group, shape (groups,)."""
        return np.bincount(self.groups)


@dataclass(frozen=True)
class _Order:
    """Indices of the slices in the order of their files, and what each is part of.

    ``source``, ``kind`` (source and label) and ``series`` (source, label and folder) are codes.
    """

    places: Places
    source: Places
    kind: Places
    series: Places


def hidden_groups(
    manifest: pd.DataFrame, grey: NDArray[np.uint8], duplicates: Iterable[DuplicatePair], seed: int = 0
) -> HiddenGroups:
    """Guess groups, such as patients, as runs of files whose neighbours look alike.

    Files are ordered within source, label and folder, numbers as numbers. A run continues if a slice and one
    of the next two are more alike than pairs of their source that are far apart. The threshold is the one
    that best separates neighbours from these, by the index of Youden 1950, doi
    10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3. Runs that show the same picture are joined.

    Parameters
    ----------
    manifest
        With ``path``, ``label`` and ``source``; patients are not used.
    grey
        uint8, shape (slices, height, width), in the same order.
    duplicates
        The pairs of slices that show the same picture.
    seed
        Seed of the pairs that are drawn.
    """
    order = _ordered(manifest)
    ordered = unit_vectors(small_pictures(grey, SIDE))[order.places]
    threshold = _thresholds(order, ordered, np.random.default_rng(seed))
    neighbours = _chained(order, ordered, threshold)
    repeats = np.array([(pair.first, pair.second) for pair in duplicates], dtype=np.intp).reshape(-1, 2)
    position = np.argsort(order.places)
    # A slice between two that are chained belongs to their run, however odd it looks.
    runs = [(one, one + 1) for first, last in position[neighbours].tolist() for one in range(first, last)]
    by_slice, groups = np.empty(len(threshold)), np.empty(len(threshold), dtype=np.intp)
    by_slice[order.places] = threshold
    groups[order.places] = clusters(len(threshold), [*runs, *position[repeats].tolist()])
    return HiddenGroups(groups, by_slice, neighbours, repeats)


def _ordered(manifest: pd.DataFrame) -> _Order:
    folders = [str(Path(path).parent) for path in manifest["path"]]
    frame = manifest[["source", "label"]].reset_index(drop=True).assign(folder=folders)
    keys = [
        (source, label, natural_key(folder), natural_key(Path(path).name))
        for (source, label, folder), path in zip(frame.itertuples(index=False), manifest["path"], strict=True)
    ]
    places = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.intp)
    ordered = frame.iloc[places]

    def codes(*columns: str) -> Places:
        return np.asarray(ordered.groupby(list(columns), sort=False).ngroup(), dtype=np.intp)

    return _Order(places, codes("source"), codes("source", "label"), codes("source", "label", "folder"))


def _thresholds(order: _Order, ordered: Floats, rng: np.random.Generator) -> NDArray[np.float64]:
    """The likeness above which neighbours are chained, for each position in the order."""
    threshold = np.full(len(ordered), np.inf)
    for source in np.unique(order.source):
        of_source = order.source == source
        likeness = [
            _far_apart(ordered[order.kind == kind], rng)
            for kind in np.unique(order.kind[of_source])
            if (order.kind == kind).sum() >= LEAST
        ]
        if not likeness:
            continue
        together = of_source[:-1] & (order.series[:-1] == order.series[1:])
        near = np.einsum("pk,pk->p", ordered[:-1][together], ordered[1:][together])
        threshold[of_source] = _threshold(near, np.concatenate(likeness))
    return threshold


def _threshold(near: Floats, far: Floats) -> float:
    """The likeness that separates neighbours from pairs far apart by Youden's index; infinite if none does."""
    if not len(near):
        return np.inf
    chance = np.linspace(CHANCE, 0, 101)
    candidates = np.quantile(far, 1 - chance)
    gained = (near[:, None] > candidates).mean(axis=0) - chance
    lowest = int(np.flatnonzero(gained >= gained.max() - SLACK)[0])
    by_accident = 3 * (CHANCE * (1 - CHANCE) / len(near)) ** 0.5
    return float(candidates[lowest]) if gained[lowest] >= max(EVIDENCE, by_accident) else np.inf


def _far_apart(ordered: Floats, rng: np.random.Generator) -> Floats:
    """Likeness of pairs of one class that are far apart in the order of the files."""
    count = len(ordered)
    first, second = rng.integers(count, size=(2, DRAWS))
    far = np.abs(first - second) >= min(APART, count // 3)
    return np.einsum("pk,pk->p", ordered[first[far]], ordered[second[far]])


def _chained(order: _Order, ordered: Floats, threshold: NDArray[np.float64]) -> Places:
    """Indices of the pairs of neighbours in a series that are similar enough, shape (pairs, 2)."""
    pairs = [np.empty((0, 2), dtype=np.intp)]
    for step in range(1, REACH + 1):
        alike = np.einsum("pk,pk->p", ordered[:-step], ordered[step:]) > threshold[:-step]
        first = np.flatnonzero(alike & (order.series[:-step] == order.series[step:]))
        pairs.append(np.column_stack([order.places[first], order.places[first + step]]))
    return np.concatenate(pairs)


MOST = 0.2
"""An origin that covers more than this share of a class is a naming habit, not a paper or series."""
UNMISTAKABLE = 6
"""An origin with at least this many digits is unique everywhere; shorter ones, such as ``patient12``, may
recur in each class."""
WORDS = 3
"""This many words make a title even without a digit; fewer, as in ``covid-p12-3.png``, may be a class and a
patient."""
_PAGE = re.compile(r"^(.+?)[-_ ]p\d+(?=[-_ %(]|$)", re.IGNORECASE)
_CROP = re.compile(r"%\d+$")
_PICTURE = re.compile(
    r"[-_ (]+(?:slice|sl|image|img|im|figure|fig|frame|picture|pic|z|no)?[-_ ]?\d+\)?$", re.IGNORECASE
)


def origin_of(path: Path | str) -> str:
    """The paper or series according to a file's name; "" if it names none.

    It is the text before a page mark, as in ``2020.03.12.20034686-p17-91-1.png``; else before the number of a
    part of a figure, as in ``71%0.jpg``, and before the number of a picture, as in ``phantom-0003_012.png``
    or ``patient12_slice5.png``. A word without a number, as in ``Covid (12).png``, does not count.
    """
    stem = Path(path).stem
    if (page := _PAGE.match(stem)) and (_numbered(page[1]) or len(re.findall("[A-Za-z]+", page[1])) >= WORDS):
        return page[1]
    figure = _CROP.sub("", stem)
    before = _PICTURE.sub("", figure)
    if _numbered(before) and before != stem:
        return before
    return figure if figure != stem else ""


def _numbered(text: str) -> bool:
    return any(character.isdigit() for character in text)


def origins(manifest: pd.DataFrame) -> "pd.Series[str]":
    """The origin of each scan, as far as the names of all scans distinguish origins.

    Returns
    -------
    Text, index as given. Blank if :func:`origin_of` is, or if an origin has only one file or covers more than
    a fifth of a class of its source. An origin with few digits is followed by the label in brackets: the same
    short number in two classes does not count as one origin.
    """
    labels = manifest["label"]
    named = pd.Series([origin_of(path) for path in manifest["path"]], index=manifest.index, dtype=object)
    short = named.str.count(r"\d") < UNMISTAKABLE
    named = named.where(~short | (named == ""), named + " (" + labels + ")")
    files = named.groupby([manifest["source"], named]).transform("size")
    share = named.groupby([manifest["source"], labels, named]).transform("size") / named.groupby(
        [manifest["source"], labels]
    ).transform("size")
    widest = share.groupby([manifest["source"], named]).transform("max")
    return named.where((files > 1) & (widest <= MOST), "")
