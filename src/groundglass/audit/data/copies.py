"""What the pairs of scans that show the same picture come to: sets of them, and pairs that differ in something."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.material import Material
from groundglass.audit.measures import Kind, kind_of_groups, mean
from groundglass.audit.near_duplicates import NEAR, Twin, clusters
from groundglass.audit.telling import SHOWN
from groundglass.data.manifest import PARTS
from groundglass.data.splits import groups
from groundglass.evaluate.evaluation import format_estimate
from groundglass.labels import NEGATIVE, POSITIVE


def sets(count: int, twins: Iterable[Twin]) -> list[list[int]]:
    """Put together what is linked by pairs.

    Parameters
    ----------
    count
        How many scans there are.
    twins
        Some pairs of them, the worst first.

    Returns
    -------
    Places of the scans of each set; the sets, and the scans in each, in the order in which the pairs name them.
    """
    pairs = list(twins)
    cluster = clusters(count, ((twin.first, twin.second) for twin in pairs))
    found: dict[int, dict[int, None]] = {}
    for twin in pairs:
        found.setdefault(int(cluster[twin.first]), {}).update({twin.first: None, twin.second: None})
    return [list(members) for members in found.values()]


def pictures(material: Material, found: Iterable[Iterable[int]]) -> tuple[tuple[str, ...], ...]:
    """Files of the first sets, no more than SHOWN."""
    return tuple(tuple(material.paths[[*members]].tolist()) for members in [*found][:SHOWN])


def touched(count: int, twins: Iterable[Twin]) -> NDArray[np.bool_]:
    """Which of ``count`` scans are in one of some pairs, shape (scans,)."""
    among = np.zeros(count, dtype=bool)
    among[[place for twin in twins for place in (twin.first, twin.second)]] = True
    return among


def differing(twins: Iterable[Twin], values: NDArray[np.str_]) -> list[Twin]:
    """Find scans that show the same picture and differ in a value, such as their label.

    Parameters
    ----------
    twins
        As :func:`groundglass.audit.near_duplicates.find_twins` gives them.
    values
        Of each scan, str, shape (scans,); a blank one is unknown and differs from none.

    Returns
    -------
    The pairs, the most alike first; of equal files at least one pair for each file that is so.
    """
    pairs = list(twins)
    found = {
        twin
        for twin in pairs
        if twin.how != "same file" and "" != values[twin.first] != values[twin.second] != ""
    }
    for members in sets(len(values), (twin for twin in pairs if twin.how == "same file")):
        found.update(_unequal_copies([place for place in members if values[place] != ""], values))
    return sorted(found, key=alikeness)


def alikeness(twin: Twin) -> tuple[float, int, int]:
    """What pairs are sorted by, so that the most alike come first."""
    return -twin.likeness, twin.first, twin.second


def _unequal_copies(members: list[int], values: NDArray[np.str_]) -> Iterator[Twin]:
    """Each of some equal files with the first one that has another value."""
    for value in {values[place] for place in members}:
        partner = next((place for place in members if values[place] != value), None)
        if partner is not None:
            for place in members:
                if values[place] == value:
                    yield Twin(min(place, partner), max(place, partner), 1.0, "same file")


def counted(count: int, noun: str) -> str:
    """A number of things, such as ``2 pairs``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def compared(word: str) -> tuple[str, ...]:
    """Header of the rows of :func:`rows_of`, for scans that are compared in what ``word`` says."""
    return ("One slice", f"Its {word}", "Other slice", f"{word.capitalize()} of the other", "Likeness", "How")


def rows_of(
    material: Material, twins: Iterable[Twin], values: NDArray[np.str_]
) -> tuple[tuple[str, ...], ...]:
    """A row for each pair: its files, their values, how alike they are, and in which way."""
    return tuple(
        (
            str(material.paths[twin.first]),
            str(values[twin.first]),
            str(material.paths[twin.second]),
            str(values[twin.second]),
            f"{twin.likeness:.3f}",
            "mirror image" if twin.mirrored else twin.how,
        )
        for twin in twins
    )


class ExactDuplicates(Check[Material]):
    """Compares all files byte for byte."""

    code = "GG101"
    title = "Files that are equal byte for byte"
    severity = "warning"
    remedy = "Keep one file of each set: the others count one picture several times, and make intervals too narrow."

    def run(self, material: Material) -> Result:
        """Count files that are equal to another."""
        count = len(material.paths)
        if count < 2:
            raise NotApplicable("There are fewer than two slices.")
        twins = [twin for twin in material.twins if twin.how == "same file"]
        found = sorted(sets(count, twins), key=len, reverse=True)
        among = touched(count, twins)
        share = mean(among.astype(float), material.units, material.seed)
        message = (
            f"The files of {among.sum()} of {count} slices, a share of {format_estimate(share, 3)}, are equal to "
            f"another byte for byte, in {counted(len(found), 'set')}; with one of each set {count - len(twins)} "
            "are left."
        )
        return Result(
            "warning" if found else None,
            message if found else f"No two of the {count} files are equal byte for byte.",
            share,
            "share of the slices whose file is equal to another",
            files=tuple(material.paths[among].tolist()),
            side_by_side=pictures(material, found),
            header=("Files", "Names", "Labels", "Parts"),
            rows=tuple(_row(material, members) for members in found),
        )


def _row(material: Material, members: list[int]) -> tuple[str, ...]:
    names = (Path(path).name for path in material.paths[members])
    values = (sorted(set(material.manifest[column].iloc[members]) - {""}) for column in ("label", "split"))
    return str(len(members)), ", ".join(names), *map(", ".join, values)


class NearDuplicates(Check[Material]):
    """Looks for copies that were cut, rescaled, recompressed, made brighter or mirrored."""

    code = "GG102"
    title = "Nearly the same picture"
    severity = "warning"
    remedy = (
        "Look at the sets; of copies keep one, and keep the slices of a set together in every split, for instance "
        "by one name in the column group."
    )

    def run(self, material: Material) -> Result:
        """Count pairs, and how many of them are of one patient."""
        count = len(material.paths)
        if count < 2:
            raise NotApplicable("There are fewer than two slices.")
        units = material.units

        def worst_first(twin: Twin) -> tuple[bool, tuple[float, int, int]]:
            return bool(units[twin.first] == units[twin.second]), alikeness(twin)

        twins = sorted((twin for twin in material.twins if twin.how == "same picture"), key=worst_first)
        found = sets(count, twins)
        among = touched(count, twins)
        share = mean(among.astype(float), units, material.seed)
        kind = kind_of_groups(material.manifest)
        message = (
            f"{among.sum()} of {count} slices, a share of {format_estimate(share)}, show nearly the same picture "
            f"as another (likeness of {NEAR} or more): {counted(len(twins), 'pair')} in "
            f"{counted(len(found), 'set')}; in {sum(twin.mirrored for twin in twins)} of the pairs one is the "
            f"other's mirror image. {_within(twins, units, kind)}"
        )
        return Result(
            "warning" if twins else None,
            message if twins else f"No two of the {count} slices show nearly the same picture.",
            share,
            "share of the slices that show nearly the same picture as another",
            files=tuple(material.paths[among].tolist()),
            side_by_side=pictures(material, found),
            header=compared(_word(kind)),
            rows=rows_of(material, twins, _numbers(material)),
        )


def _word(kind: Kind) -> str:
    return "patient" if kind == "slice" else kind


def _within(twins: list[Twin], units: NDArray[np.intp], kind: Kind) -> str:
    """How many of the pairs may be no copies but neighbours."""
    same = sum(units[twin.first] == units[twin.second] for twin in twins)
    told = (
        "No patient is known, so that it cannot be told how many of the pairs are of one patient."
        if kind == "slice"
        else f"{same} of the pairs are within one {kind}, {len(twins) - same} are not."
    )
    return f"{told} Neighbouring slices of one patient can be that alike without being copies."


def _numbers(material: Material) -> NDArray[np.str_]:
    """A number for the group of each slice, since no id goes into a report; blank where no group is known."""
    known = groups(material.manifest) != material.manifest["path"]
    return np.where(known, (material.units + 1).astype(str), "")


class OppositeLabels(Check[Material]):
    """Looks for pictures that are labelled COVID-19 in one file and not in another."""

    code = "GG103"
    title = "Same picture, opposite labels"
    severity = "error"
    needs = ("two classes",)
    remedy = (
        "Look at each pair and ask where the files come from: at least one of the two labels is wrong, or they are "
        "neighbours of one patient. Correct it, or take both out."
    )

    def run(self, material: Material) -> Result:
        """Compare the labels of all pairs that show the same picture."""
        count = len(material.paths)
        twins = differing(material.twins, np.where(material.truth, POSITIVE, NEGATIVE))
        among = touched(count, twins)
        share = mean(among.astype(float), material.units, material.seed)
        message = (
            f"The same picture is there under opposite labels in {counted(len(twins), 'pair')} of slices, and at "
            f"least one of the two is wrong. Of the {count} slices this concerns {among.sum()}, a share of "
            f"{format_estimate(share, 3)}."
        )
        return Result(
            "error" if twins else None,
            message if twins else "No picture is there under both labels.",
            share,
            "share of the slices whose picture is there under the opposite label",
            files=tuple(material.paths[among].tolist()),
            side_by_side=pictures(material, sets(count, twins)),
            header=compared("label"),
            rows=rows_of(material, twins, material.manifest["label"].to_numpy(dtype=str)),
        )


class DuplicatesAcrossParts(Check[Material]):
    """Looks for pictures that are trained on and tested on."""

    code = "GG106"
    title = "Same picture in two parts"
    severity = "error"
    needs = ("two parts",)
    remedy = (
        "Take the copies out of the training part, or divide anew with the sets kept together, and train and test "
        "again: scores on this split are too good."
    )

    def run(self, material: Material) -> Result:
        """Compare the parts of all pairs that show the same picture."""
        count, parts = len(material.paths), material.parts
        twins = differing(material.twins, parts)
        *others, held_out = (part for part in PARTS if (parts == part).any())
        held = parts == held_out
        among = touched(count, twins)
        share = mean(among[held].astype(float), material.units[held], material.seed)
        message = (
            f"The same picture lies in two parts of the split in {counted(len(twins), 'pair')} of slices; of the "
            f"{held.sum()} {held_out} slices a share of {format_estimate(share)} is in {' or '.join(others)} too."
        )
        return Result(
            "error" if twins else None,
            message if twins else "No slice shows the same picture as one in another part.",
            share,
            f"share of the {held_out} slices whose picture is in {' or '.join(others)} too",
            files=tuple(material.paths[among].tolist()),
            side_by_side=pictures(material, sets(count, twins)),
            header=compared("part"),
            rows=rows_of(material, twins, parts),
        )
