"""GG101, GG102, GG103 and GG106: scans that show the same picture, and pairs of them that differ in something."""

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
from groundglass.bundle.evaluation import format_estimate
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
        How many scans there are.
    pairs
        Some pairs of them, the worst first.

    Returns
    -------
    Places of the scans of each set; the sets, and the scans in each, in the order in which the pairs name them.
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
        Of each scan, str, shape (scans,); a blank one is unknown and differs from none.

    Returns
    -------
    The pairs, the most alike first; of equal files at least one pair for each file concerned.
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
    """Sorts pairs so that the most alike come first."""
    return -pair.likeness, pair.first, pair.second


def _unequal_copies(members: list[int], values: Values) -> Iterator[DuplicatePair]:
    """Each of some equal files with the first one that has another value."""
    for place in members:
        partner = next((other for other in members if values[other] != values[place]), None)
        if partner is not None:
            yield DuplicatePair(min(place, partner), max(place, partner), 1.0, "same file")


def counted(count: int, noun: str) -> str:
    """A number of things, such as ``2 pairs``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


Details = tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]
"""A header and rows of text."""


class _Duplicates(Check[Material]):
    """Counts the scans that are in certain pairs of duplicates; a subclass says in which.

    Attributes
    ----------
    found, passed, concerns
        Templates of the message with and without such pairs, and of what the figure is; they may name ``count``,
        ``among``, ``share``, ``pairs``, ``sets``, ``left``, ``mirrored``, ``held_out``, ``held`` and ``others``.
    word
        What the slices of a pair are compared in; a column of the manifest.
    """

    found: ClassVar[str]
    passed: ClassVar[str]
    concerns: ClassVar[str]
    word: ClassVar[str] = ""
    digits: ClassVar[int] = 2

    @abstractmethod
    def pairs(self, material: Material) -> list[DuplicatePair]:
        """The pairs of duplicates that matter, the worst first."""

    def counts(self, material: Material) -> NDArray[np.bool_]:
        """The slices that the share is of, shape (slices,)."""
        return np.ones(len(material.paths), dtype=bool)

    def sets(self, material: Material, pairs: list[DuplicatePair]) -> list[list[int]]:
        """The sets that are shown, the worst first."""
        return sets(len(material.paths), pairs)

    def details(self, material: Material, pairs: list[DuplicatePair]) -> Details:
        """A header, and a row for each pair: its files, their values, how alike they are, and in which way."""
        return pair_details(material, pairs, self.word, material.manifest[self.word].to_numpy(dtype=str))

    def extra(self, material: Material, pairs: list[DuplicatePair]) -> str:
        """A sentence to add where there are pairs."""
        return ""

    def run(self, material: Material) -> Result:
        """Count the pairs and the slices in them."""
        count = len(material.paths)
        if count < 2:
            raise NotApplicable("There are fewer than two slices.")
        pairs = self.pairs(material)
        among = np.zeros(count, dtype=bool)
        among[[place for pair in pairs for place in (pair.first, pair.second)]] = True
        of, joined = self.counts(material), self.sets(material, pairs)
        share = mean(among[of], material.units[of], material.seed)
        held_out, others = parts_in_words(material)
        words = {
            "count": count,
            "among": among.sum(),
            "share": format_estimate(share, self.digits),
            "pairs": counted(len(pairs), "pair"),
            "sets": counted(len(joined), "set"),
            "left": count - len(pairs),
            "mirrored": sum(pair.mirrored for pair in pairs),
            "held_out": held_out,
            "held": of.sum(),
            "others": others,
        }
        header, rows = self.details(material, pairs)
        return Result(
            self.severity if pairs else None,
            (self.found.format(**words) + self.extra(material, pairs))
            if pairs
            else self.passed.format(**words),
            share,
            self.concerns.format(**words),
            files=tuple(material.paths[among].tolist()),
            side_by_side=tuple(tuple(material.paths[members].tolist()) for members in joined[:SHOWN]),
            header=header,
            rows=rows,
        )


def pair_details(material: Material, pairs: Sequence[DuplicatePair], word: str, values: Values) -> Details:
    """The header and the rows of pairs whose ``values`` are compared; ``word`` says what they are."""
    header = (
        "One slice",
        f"Its {word}",
        "Other slice",
        f"{word.capitalize()} of the other",
        "Likeness",
        "How",
    )
    return header, tuple(
        (
            *(str(cells[place]) for place in (pair.first, pair.second) for cells in (material.paths, values)),
            f"{pair.likeness:.3f}",
            "mirror image" if pair.mirrored else pair.how,
        )
        for pair in pairs
    )


def parts_in_words(material: Material) -> tuple[str, str]:
    """The part that scores are given on, the test part or the last one, and the others, as ``train or val``."""
    present = [part for part in PARTS if (material.parts == part).any()]
    return (present or [""])[-1], " or ".join(present[:-1])


class ExactDuplicates(_Duplicates):
    """Compares all files byte for byte."""

    code = "GG101"
    title = "Files that are equal byte for byte"
    severity = "warning"
    remedy = (
        "Keep one file of each set: copies count one picture several times and make intervals too narrow."
    )
    found = (
        "The files of {among} of {count} slices, a share of {share}, are equal to another byte for byte, in "
        "{sets}. With one file of each set {left} are left."
    )
    passed = "No two of the {count} files are equal byte for byte."
    concerns = "share of the slices whose file is equal to another"
    digits = 3

    def pairs(self, material: Material) -> list[DuplicatePair]:
        """Equal files."""
        return [pair for pair in material.duplicates if pair.how == "same file"]

    def sets(self, material: Material, pairs: list[DuplicatePair]) -> list[list[int]]:
        """The largest first."""
        return sorted(super().sets(material, pairs), key=len, reverse=True)

    def details(self, material: Material, pairs: list[DuplicatePair]) -> Details:
        """A row for each set."""
        rows = []
        for members in self.sets(material, pairs):
            names = ", ".join(Path(path).name for path in material.paths[members])
            values = (set(material.manifest[column].iloc[members]) - {""} for column in ("label", "split"))
            rows.append((str(len(members)), names, *(", ".join(sorted(value)) for value in values)))
        return ("Files", "Names", "Labels", "Parts"), tuple(rows)


class NearDuplicates(_Duplicates):
    """Looks for copies that were cut, rescaled, recompressed, made brighter or mirrored."""

    code = "GG102"
    title = "Nearly the same picture"
    severity = "warning"
    remedy = (
        "Look at the sets. Of copies keep one, and keep the slices of a set together in every split, for instance "
        "by one name in the column group."
    )
    found = (
        f"{{among}} of {{count}} slices, a share of {{share}}, show nearly the same picture as another (likeness "
        f"of {NEAR} or more): {{pairs}} in {{sets}}; in {{mirrored}} of the pairs one is the other's mirror image."
    )
    passed = "No two of the {count} slices show nearly the same picture."
    concerns = "share of the slices that show nearly the same picture as another"

    def pairs(self, material: Material) -> list[DuplicatePair]:
        """Those of different patients first."""
        units = material.units
        pairs = (pair for pair in material.duplicates if pair.how == "same picture")
        return sorted(
            pairs, key=lambda pair: (bool(units[pair.first] == units[pair.second]), _alikeness(pair))
        )

    def extra(self, material: Material, pairs: list[DuplicatePair]) -> str:
        """How many of the pairs may be neighbours instead of copies."""
        kind, units = kind_of_groups(material.manifest), material.units
        same = sum(units[pair.first] == units[pair.second] for pair in pairs)
        within = (
            "No patient is known, so it is unknown how many of the pairs are of one patient."
            if kind == "slice"
            else f"{same} of the pairs are within one {kind}, {len(pairs) - same} are not."
        )
        return f" {within} Neighbouring slices of one patient can be this alike without being copies."

    def details(self, material: Material, pairs: list[DuplicatePair]) -> Details:
        """With a number for each group, since no id may go into a report; blank where no group is known."""
        kind = kind_of_groups(material.manifest)
        known = groups(material.manifest) != material.manifest["path"]
        numbers = np.where(known, (material.units + 1).astype(str), "")
        return pair_details(material, pairs, "patient" if kind == "slice" else kind, numbers)


class OppositeLabels(_Duplicates):
    """Looks for pictures that are labelled COVID-19 in one file and not in another."""

    code = "GG103"
    title = "Same picture, opposite labels"
    severity = "error"
    needs = ("two classes",)
    remedy = (
        "Look at each pair and ask where the files come from: at least one of the two labels is wrong, or they are "
        "neighbours of one patient. Correct the label, or remove both."
    )
    found = (
        "In {pairs} of slices the same picture has opposite labels, so at least one of the two is wrong. This "
        "concerns {among} of the {count} slices, a share of {share}."
    )
    passed = "No picture is there under both labels."
    concerns = "share of the slices whose picture is there under the opposite label"
    word = "label"
    digits = 3

    def pairs(self, material: Material) -> list[DuplicatePair]:
        """Those whose labels differ."""
        return differing(material.duplicates, np.where(material.truth, POSITIVE, NEGATIVE))


class DuplicatesAcrossParts(_Duplicates):
    """Looks for pictures that are trained on and tested on."""

    code = "GG106"
    title = "Same picture in two parts"
    severity = "error"
    needs = ("two parts",)
    remedy = (
        "Remove the copies from the training part, or divide again with the sets kept together, then train and "
        "test again: scores on this split are too good."
    )
    found = (
        "In {pairs} of slices the same picture is in two parts of the split; a share of {share} of the {held} "
        "{held_out} slices is in {others} too."
    )
    passed = "No slice shows the same picture as one in another part."
    concerns = "share of the {held_out} slices whose picture is in {others} too"

    def pairs(self, material: Material) -> list[DuplicatePair]:
        """Those whose parts differ."""
        return differing(material.duplicates, material.parts)

    def counts(self, material: Material) -> NDArray[np.bool_]:
        """The slices that scores are given on."""
        return np.asarray(material.parts == parts_in_words(material)[0])

    def details(self, material: Material, pairs: list[DuplicatePair]) -> Details:
        """With the parts."""
        return pair_details(material, pairs, "part", material.parts)
