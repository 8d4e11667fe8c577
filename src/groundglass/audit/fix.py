"""A manifest without what the audit found: copies, opposite labels, and what belongs together but is torn apart.

The rules, in the order in which they are applied:

1. A file that cannot be read is left out (GG119).
2. Where a picture has opposite labels, its slices are removed: nobody knows which label is right (GG103). A file
   that equals one of them is in doubt too.
3. Of equal files one is kept (GG101; GG106 across parts): that of the test part if one lies there, else that of
   the validation part, else the first. Pictures that are nearly the same are not removed, since neighbouring slices
   of a patient can be that alike, but belong together.
4. Whatever belongs together becomes one group: slices of one patient, or of one group that the manifest names
   (GG104), pictures that are the same (GG102; GG106 across parts), files of one paper or series by their names
   (GG105), and, of slices that name no patient or group, guessed groups (GG107). The group is called as the
   patient or origin where it is just that, ``guess-0007`` where it is one by a guess alone, else ``group-0007``.
   What stands alone, or was one group already, is left as it is.
5. A group that lies in several parts moves to the part that holds most of it (of equal ones training before
   validation before test), so that nothing is lost. Slices without a part stay without one.

The same name in two sources is two names.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.hidden_groups import origins
from groundglass.audit.material import Material
from groundglass.audit.near_duplicates import clusters
from groundglass.data.manifest import PARTS
from groundglass.data.splits import groups, named_groups
from groundglass.errors import GroundglassError

UNREADABLE, OPPOSITE = "GG119", "GG103"
COPY, ALIKE, PATIENT, ORIGIN, ACROSS, GUESS = "GG101", "GG102", "GG104", "GG105", "GG106", "GG107"
"""Codes of the checks that speak of the reasons."""


@dataclass(frozen=True, eq=False)
class Bond:
    """Slices that belong together for one reason.

    Attributes
    ----------
    code
        Of the check that speaks of the reason.
    words
        What stands between two of the slices in a sentence, such as ``shows the same picture as``.
    places
        Of the slices, rising, two at least.
    name
        Of the patient, group or origin; blank for pictures and guesses.
    """

    code: str
    words: str
    places: tuple[int, ...]
    name: str = ""

    def partner(self, codes: NDArray[np.intp], of: int) -> int | None:
        """The first of the slices that has another code than the slice ``of``, if any."""
        return next((place for place in self.places if codes[place] != codes[of]), None)


def find_bonds(material: Material, usable: Iterable[int], left: Iterable[int]) -> list[Bond]:
    """Find all reasons why slices belong together.

    Parameters
    ----------
    material
        All slices.
    usable
        Places of the slices that are looked at; the same name in two sources is two names.
    left
        Those of them that a later audit will see: names are common or rare among these as well.

    Returns
    -------
    The surest first: patients, groups that the manifest names, pictures, origins, and the guessed groups of slices
    that name no patient or group.
    """
    manifest = material.manifest.reset_index(drop=True)
    rows = manifest.loc[sorted(usable)]
    told = origins(manifest.loc[sorted(left)]).reindex(rows.index, fill_value="")
    told = told.where(told != "", origins(rows))
    sources = rows["source"]
    return [
        *_named(rows["patient"], sources, PATIENT, "is of the same patient, {}, as"),
        *(_named(rows["group"], sources, PATIENT, "is of the same group, {}, as") if "group" in rows else ()),
        *_pictures(material, set(rows.index)),
        *_named(told, sources, ORIGIN, "is by its name of the same paper or series, {}, as"),
        *_guessed(material, rows[named_groups(rows) == ""].index),
    ]


def joined(count: int, bonds: Iterable[Bond]) -> NDArray[np.intp]:
    """Number of the group that each of ``count`` slices belongs to, whatever is bound being in one; from 0 on."""
    return clusters(count, ((bond.places[0], place) for bond in bonds for place in bond.places[1:]))


def _named(names: "pd.Series[str]", sources: "pd.Series[str]", code: str, words: str) -> Iterator[Bond]:
    known = names[names != ""]
    for (_, name), slices in known.groupby([sources[known.index], known], sort=False):
        if len(slices) > 1:
            yield Bond(code, words.format(name), tuple(slices.index.tolist()), str(name))


def _pictures(material: Material, usable: Container[int]) -> Iterator[Bond]:
    for twin in material.duplicates:
        if twin.first in usable and twin.second in usable:
            same_file = twin.how == "same file"
            across = len(set(material.parts[[twin.first, twin.second]]) - {""}) == 2
            yield Bond(
                ACROSS if across else COPY if same_file else ALIKE,
                "is the same file as" if same_file else "shows the same picture as",
                (twin.first, twin.second),
            )


def _guessed(material: Material, unnamed: "pd.Index[int]") -> Iterator[Bond]:
    if len(unnamed):
        guess = pd.Series(material.hidden.groups).loc[unnamed]
        for _, slices in guess.groupby(guess):
            if len(slices) > 1:
                yield Bond(
                    GUESS, "seems, by a guess, to be of the same series as", tuple(slices.index.tolist())
                )


Places = NDArray[np.intp]


@dataclass(frozen=True)
class Change:
    """What became of a slice, and why.

    Attributes
    ----------
    path
        Its file, absolute.
    what
        ``removed`` from the manifest, ``regrouped`` in the column ``group``, or ``moved`` to another part.
    code
        Of the check that speaks of the reason.
    why
        A full sentence that names the other file, and the group where it has a name.
    before, after
        The group, or the part. Of what is removed, ``before`` is the label, blank where the file cannot be read,
        and ``after`` is blank.
    """

    path: str
    what: Literal["removed", "regrouped", "moved"]
    code: str
    why: str
    before: str
    after: str


def fix(material: Material) -> tuple[pd.DataFrame, list[Change]]:
    """Remove, regroup and move slices by the rules at the top of this file.

    Returns
    -------
    What is left of the manifest, in its order, index 0, 1, ..., with a column ``group`` if any slice was
    regrouped; and the changes: the unreadable files, then what was removed, regrouped and moved, each in the order
    of the rows.

    Raises
    ------
    GroundglassError
        If a class or a part would be empty.
    """
    manifest = material.manifest.reset_index(drop=True)
    opposite = _opposite(material)
    copies = _copies(material, opposite)
    left = np.setdiff1d(np.arange(len(manifest)), [*opposite, *copies])
    _refuse_empty_class(material.name, manifest, left)
    bound = _Bound(manifest, left, find_bonds(material, [*left, *copies], left))
    fixed = bound.fixed()
    _refuse_empty_part(material.name, manifest, fixed)
    unreadable = [
        Change(str(error.path), "removed", UNREADABLE, f"It cannot be read: {error.problem}.", "", "")
        for error in material.unreadable
    ]
    return fixed, [*unreadable, *_removed(manifest, opposite, copies), *bound.changes()]


def changes_table(changes: Iterable[Change]) -> pd.DataFrame:
    """The changes as a table of text, columns ``path, what, code, why, before, after``."""
    return pd.DataFrame(map(astuple, changes), columns=[field.name for field in fields(Change)], dtype=object)


def _same_files(material: Material) -> Places:
    equal = ((twin.first, twin.second) for twin in material.duplicates if twin.how == "same file")
    return clusters(len(material.truth), equal)


def _opposite(material: Material) -> dict[int, int]:
    """Places whose picture has the opposite label too, and where."""
    truth = material.truth
    found: dict[int, int] = {}
    for twin in material.duplicates:
        if truth[twin.first] != truth[twin.second]:
            found.setdefault(twin.first, twin.second)
            found.setdefault(twin.second, twin.first)
    files = _same_files(material)
    doubted = {files[place]: place for place in found}
    for place in np.flatnonzero(np.isin(files, list(doubted))).tolist():
        equal = doubted[files[place]]
        found.setdefault(place, found[equal] if truth[place] == truth[equal] else equal)
    return found


def _copies(material: Material, removed: Container[int]) -> dict[int, int]:
    """Places of files that equal another one, and the one that is kept."""
    rank = {"test": 0, "val": 1}
    files = pd.Series(_same_files(material))
    found: dict[int, int] = {}
    for _, slices in files[files.duplicated(keep=False)].groupby(files):
        equal = [place for place in slices.index.tolist() if place not in removed]
        if equal:
            kept = min(equal, key=lambda place: (rank.get(str(material.parts[place]), 2), place))
            found.update({place: kept for place in equal if place != kept})
    return found


def _removed(manifest: pd.DataFrame, opposite: dict[int, int], copies: dict[int, int]) -> Iterator[Change]:
    paths, labels, parts = (manifest[column] for column in ("path", "label", "split"))
    for place, other in sorted({**opposite, **copies}.items()):
        name = _name(manifest, other, place)
        if place in opposite:
            code = OPPOSITE
            why = (
                f"It shows the same picture as {name}, which is labelled {labels[other]}; nobody knows which label "
                "is right."
            )
        else:
            across = len({parts[place], parts[other]} - {""}) == 2
            code = ACROSS if across else COPY
            why = f"It is the same file as {name}{f' of the {parts[other]} part' * across}, which is kept."
        yield Change(paths[place], "removed", code, why, labels[place], "")


def _name(manifest: pd.DataFrame, of: int, beside: int) -> str:
    """A file's name, with its folder where the file ``beside`` has the same name."""
    path, other = Path(manifest["path"][of]), Path(manifest["path"][beside])
    return f"{path.parent.name}/{path.name}" if path.name == other.name else path.name


class _Bound:
    """Slices bound into groups.

    Parameters
    ----------
    manifest
        All slices, index 0, 1, ....
    left
        Places of those that are not removed, rising.
    bonds
        The surest first.
    """

    def __init__(self, manifest: pd.DataFrame, left: Places, bonds: list[Bond]) -> None:
        self._manifest = manifest
        self._left = left
        self._bonds = bonds
        self._parts = manifest["split"].to_numpy(dtype=str)
        self._before = named_groups(manifest)
        self._names = groups(manifest)
        self._old = pd.factorize(pd.MultiIndex.from_arrays([manifest["source"], self._names]))[0]
        self._new = joined(len(manifest), bonds)
        self._sure = joined(len(manifest), (bond for bond in bonds if bond.code != GUESS))
        by_group = pd.Series(left).groupby(self._new[left], sort=False)
        self._members = [places.to_numpy() for _, places in by_group if len(places) > 1]

    def fixed(self) -> pd.DataFrame:
        """What is left of the manifest, groups and parts filled."""
        fixed = self._manifest.loc[self._left].copy()
        if self._regrouped and "group" not in fixed:
            fixed["group"] = ""
        for column, values in (("group", self._regrouped), ("split", self._moved)):
            if values:
                fixed.loc[list(values), column] = list(values.values())
        return fixed.reset_index(drop=True)

    def changes(self) -> Iterator[Change]:
        """Who was regrouped, then who was moved."""
        paths = self._manifest["path"]
        for place, name in self._regrouped.items():
            yield Change(paths[place], "regrouped", *self._why_regrouped(place), self._before[place], name)
        for place, part in self._moved.items():
            yield Change(paths[place], "moved", *self._why_moved(place, part), self._parts[place], part)

    @cached_property
    def _regrouped(self) -> dict[int, str]:
        """The new name of the group of each slice whose group is not the same set of slices as before."""
        sizes = np.bincount(self._old[self._left])
        known, given = {*self._names, *self._manifest["patient"]}, set[str]()
        named: dict[int, str] = {}
        for members in self._members:
            old = np.unique(self._old[members])
            if len(old) > 1 or sizes[old[0]] != len(members):
                name = self._own_name(members, given) or self._free_name(members, known | given)
                given.add(name)
                named.update({place: name for place in members.tolist() if self._before[place] != name})
        return dict(sorted(named.items()))

    def _own_name(self, members: Places, given: Container[str]) -> str:
        """The name of the patient, group or origin with just these members; blank if none, or if others have it."""
        mine = set(members.tolist())
        for bond in self._bonds_of[int(members[0])]:
            if bond.name and bond.name not in given and mine == self._places_left.intersection(bond.places):
                bearers = self._bearers.get(bond.name, frozenset())
                if bearers <= mine:
                    return bond.name
        return ""

    def _free_name(self, members: Places, taken: Container[str]) -> str:
        kind = "group" if len(np.unique(self._sure[members])) == 1 else "guess"
        names = (f"{kind}-{number:04d}" for number in count(1))
        return next(name for name in names if name not in taken)

    @cached_property
    def _moved(self) -> dict[int, str]:
        """The new part of each slice that is moved."""
        moved: dict[int, str] = {}
        for members in self._members:
            parts = self._parts[members]
            target = PARTS[int(np.argmax([(parts == part).sum() for part in PARTS]))]
            moved.update(dict.fromkeys(members[(parts != "") & (parts != target)].tolist(), target))
        return dict(sorted(moved.items()))

    @cached_property
    def _places_left(self) -> frozenset[int]:
        return frozenset(self._left.tolist())

    @cached_property
    def _bearers(self) -> dict[str, frozenset[int]]:
        """The slices whose group had each name."""
        left = self._names[self._left]
        return {str(name): frozenset(slices.index) for name, slices in left.groupby(left)}

    @cached_property
    def _bonds_of(self) -> dict[int, list[Bond]]:
        """The bonds of each slice, the surest first."""
        found: dict[int, list[Bond]] = {place: [] for place in range(len(self._manifest))}
        for bond in self._bonds:
            for place in bond.places:
                found[place].append(bond)
        return found

    @cached_property
    def _ways_out(self) -> dict[tuple[int, int], tuple[int, Bond, int]]:
        """By old and new group, the surest bond that leads out of the old one, from a slice in it to another."""
        found: dict[tuple[int, int], tuple[int, Bond, int]] = {}
        for bond in self._bonds:
            for place in bond.places:
                way = int(self._old[place]), int(self._new[place])
                if way not in found and (other := bond.partner(self._old, place)) is not None:
                    found[way] = place, bond, other
        return found

    def _why_regrouped(self, place: int) -> tuple[str, str]:
        """The code and the sentence."""
        for bond in self._bonds_of[place]:
            if (other := bond.partner(self._old, place)) is not None:
                return bond.code, f"It {self._said(bond, place, other)}."
        way = int(self._old[place]), int(self._new[place])
        if not self._before[place] or way not in self._ways_out:  # a block of numbers is no reason
            bond = self._bonds_of[place][0]
            other = next(one for one in bond.places if one != place)
            return bond.code, f"It {self._said(bond, place, other)}."
        mate, bond, other = self._ways_out[way]
        return bond.code, (
            f"It belongs to {self._before[place]} with {_name(self._manifest, mate, place)}, which "
            f"{self._said(bond, mate, other)}."
        )

    def _why_moved(self, place: int, part: str) -> tuple[str, str]:
        """The code and the sentence."""
        goes = f"in the {part} part, to which their group moves."
        for bond in self._bonds_of[place]:
            other = next((one for one in bond.places if self._parts[one] == part), None)
            if other is not None:
                return bond.code, f"It {self._said(bond, place, other)} {goes}"
        there = self._left[(self._new[self._left] == self._new[place]) & (self._parts[self._left] == part)]
        name = self._regrouped.get(place, self._names[place])
        return self._bonds_of[place][0].code, (
            f"It belongs to {name} with {_name(self._manifest, int(there[0]), place)} {goes}"
        )

    def _said(self, bond: Bond, place: int, other: int) -> str:
        return f"{bond.words} {_name(self._manifest, other, place)}"


def _refuse_empty_class(name: str, manifest: pd.DataFrame, left: Places) -> None:
    for label in sorted(set(manifest["label"]) - set(manifest["label"][left])):
        raise GroundglassError(
            f"{name}: no slice of class {label} would be left, since each shows a picture that has the opposite "
            "label too (GG103); find out which labels are right and correct them"
        )


def _refuse_empty_part(name: str, manifest: pd.DataFrame, fixed: pd.DataFrame) -> None:
    for part in PARTS:
        if part in set(manifest["split"]) - set(fixed["split"]):
            raise GroundglassError(
                f"{name}: no slice would be left in the {part} part, since each is removed or belongs to a group "
                "that lies in another part too; divide anew first with  groundglass data split DATASET --scheme "
                "grouped -o FILE"
            )
