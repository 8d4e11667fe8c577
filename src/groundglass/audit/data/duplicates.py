"""GG101, GG102, GG103 and GG106: scans that show the same picture, and pairs of them that differ in label,
part or patient."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.material import Material
from groundglass.audit.measures import kind_of_groups, mean
from groundglass.audit.near_duplicates import NEAR, DuplicatePair, clusters
from groundglass.data.manifest import PARTS
from groundglass.data.splits import groups
from groundglass.labels import NEGATIVE, POSITIVE

SHOWN = 12
"""Sets that are shown with pictures."""
Values = NDArray[np.str_]


def sets(count: int, pairs: Sequence[DuplicatePair]) -> list[list[int]]:
    """Join scans that are linked by pairs.

    Parameters
    ----------
    count
        Number of scans.
    pairs
        Some pairs of them, the worst first.

    Returns
    -------
    Indices of the scans of each set; sets, and scans within them, are in the order of the pairs.
    """
    cluster = clusters(count, ((pair.first, pair.second) for pair in pairs))
    found: dict[int, dict[int, None]] = {}
    for pair in pairs:
        found.setdefault(int(cluster[pair.first]), {}).update({pair.first: None, pair.second: None})
    return [list(members) for members in found.values()]


def differing(pairs: Sequence[DuplicatePair], values: Values) -> list[DuplicatePair]:
    """Find scans that show the same picture and differ in a value, such as their label.

    Parameters
    ----------
    pairs
        As :func:`groundglass.audit.near_duplicates.find_duplicates` returns them.
    values
        The value of each scan, str, shape (scans,); a blank one is unknown and does not differ from any.

    Returns
    -------
    The pairs, most alike first; for equal files at least one pair for each file concerned.
    """
    found = {
        pair
        for pair in pairs
        if pair.how != "same file" and "" != values[pair.first] != values[pair.second] != ""
    }
    for members in sets(len(values), [pair for pair in pairs if pair.how == "same file"]):
        found.update(_unequal_copies([place for place in members if values[place] != ""], values))
    return sorted(found, key=_alikeness)


def _alikeness(pair: DuplicatePair) -> tuple[float, int, int]:
    """Sort key that puts the most similar pairs first."""
    return -pair.likeness, pair.first, pair.second


def _unequal_copies(members: list[int], values: Values) -> Iterator[DuplicatePair]:
    """Each of some equal files with the first one that has another value."""
    for place in members:
        partner = next((other for other in members if values[other] != values[place]), None)
        if partner is not None:
            yield DuplicatePair(min(place, partner), max(place, partner), 1.0, "same file")


class _Duplicates(Check[Material]):
    """Counts the scans in certain pairs of duplicates, which a subclass chooses.

    Attributes
    ----------
    word
        A word for the value in which the slices of a pair are compared; see :meth:`values`.
    """

    word: ClassVar[str] = ""

    @abstractmethod
    def pairs(self, material: Material) -> list[DuplicatePair]:
        """The pairs of duplicates that matter, the worst first."""

    def counts(self, material: Material) -> NDArray[np.bool_]:
        """The slices that the share refers to, shape (slices,)."""
        return np.ones(len(material.paths), dtype=bool)

    def sets(self, material: Material, pairs: list[DuplicatePair]) -> list[list[int]]:
        """The sets that are shown, the worst first."""
        return sets(len(material.paths), pairs)

    def values(self, material: Material) -> Values:
        """The value of each slice that the table shows."""
        return material.manifest[self.word].to_numpy(dtype=str)

    def rows(self, material: Material, pairs: list[DuplicatePair]) -> Iterator[tuple[str, ...]]:
        """A row for each pair: its files, their values, their likeness, and its kind."""
        values = self.values(material)
        for pair in pairs:
            ends = [cells[place] for place in (pair.first, pair.second) for cells in (material.paths, values)]
            yield *ends, f"{pair.likeness:.3f}", "mirror image" if pair.mirrored else pair.how

    def run(self, material: Material) -> Result:
        """Count the pairs and the slices in them."""
        count = len(material.paths)
        if count < 2:
            raise NotApplicable("There are fewer than two slices.")
        pairs, units, kind = self.pairs(material), material.units, kind_of_groups(material.manifest)
        among = np.zeros(count, dtype=bool)
        among[[place for pair in pairs for place in (pair.first, pair.second)]] = True
        of, joined = self.counts(material), self.sets(material, pairs)
        held_out, others = parts_in_words(material)
        return self.result(
            self.severity if pairs else None,
            mean(among[of], units[of], material.seed),
            files=material.paths[among],
            side_by_side=[material.paths[members] for members in joined[:SHOWN]],
            rows=self.rows(material, pairs),
            count=count,
            among=among.sum(),
            pairs=len(pairs),
            sets=len(joined),
            mirrored=sum(pair.mirrored for pair in pairs),
            same=sum(units[pair.first] == units[pair.second] for pair in pairs),
            near=NEAR,
            kind=kind,
            word=self.word or ("patient" if kind == "slice" else kind),
            held=of.sum(),
            held_out=held_out,
            others=others,
        )


def parts_in_words(material: Material) -> tuple[str, str]:
    """The part that scores are given on, the test set or the last one, and the others, as ``train or val``."""
    present = [part for part in PARTS if (material.parts == part).any()]
    return (present or [""])[-1], " or ".join(present[:-1])


class ExactDuplicates(_Duplicates):
    """Compares all files byte for byte."""

    code = "GG101"

    def pairs(self, material: Material) -> list[DuplicatePair]:
        """Pairs of equal files."""
        return [pair for pair in material.duplicates if pair.how == "same file"]

    def sets(self, material: Material, pairs: list[DuplicatePair]) -> list[list[int]]:
        """The sets, largest first."""
        return sorted(super().sets(material, pairs), key=len, reverse=True)

    def rows(self, material: Material, pairs: list[DuplicatePair]) -> Iterator[tuple[str, ...]]:
        """A row for each set."""
        for members in self.sets(material, pairs):
            names = ", ".join(Path(path).name for path in material.paths[members])
            values = (set(material.manifest[column].iloc[members]) - {""} for column in ("label", "split"))
            yield str(len(members)), names, *(", ".join(sorted(value)) for value in values)


class NearDuplicates(_Duplicates):
    """Looks for copies that were cropped, rescaled, recompressed, made brighter or mirrored."""

    code = "GG102"

    def pairs(self, material: Material) -> list[DuplicatePair]:
        """Near-duplicates, those of different patients first."""
        units = material.units
        pairs = (pair for pair in material.duplicates if pair.how == "same picture")
        return sorted(
            pairs, key=lambda pair: (bool(units[pair.first] == units[pair.second]), _alikeness(pair))
        )

    def values(self, material: Material) -> Values:
        """A number for each group, since no id may appear in a report; blank if no group is known."""
        known = groups(material.manifest) != material.manifest["path"]
        return np.where(known, (material.units + 1).astype(str), "")


class OppositeLabels(_Duplicates):
    """Looks for pictures that are labelled COVID-19 in one file and not in another."""

    code = "GG103"
    word = "label"

    def pairs(self, material: Material) -> list[DuplicatePair]:
        """Pairs whose labels differ."""
        return differing(material.duplicates, np.where(material.truth, POSITIVE, NEGATIVE))


class DuplicatesAcrossParts(_Duplicates):
    """Looks for pictures that are used both for training and for testing."""

    code = "GG106"
    word = "part"

    def pairs(self, material: Material) -> list[DuplicatePair]:
        """Pairs whose parts differ."""
        return differing(material.duplicates, material.parts)

    def counts(self, material: Material) -> NDArray[np.bool_]:
        """The slices that scores are given on."""
        return np.asarray(material.parts == parts_in_words(material)[0])

    def values(self, material: Material) -> Values:
        """The parts."""
        return material.parts
