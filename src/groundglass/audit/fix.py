"""A manifest corrected for what the audit found: copies, opposite labels, and groups in several parts.

The rules, in the order in which they are applied:

1. A file that cannot be read is left out (GG119).
2. If a picture has opposite labels, its slices are removed, since it is unknown which label is right (GG103).
So are files that equal one of them.
3. Of equal files one is kept (GG101; GG106 across parts): that of the test set if there is one, else that of
the validation set, else the first. Near-duplicates are not removed, since neighbouring slices of a patient
can be this alike, but belong together.
4. Slices that belong together become one group: slices of one patient, or of one group that the manifest
names (GG104), pictures that are the same (GG102; GG106 across parts), files of one paper or series by their
names (GG105), and, among slices that name no patient or group, guessed groups (GG107). The group is named
after the patient or origin if it consists of exactly that, ``guess-0007`` if it is only guessed, else
``group-0007``. A slice without links, or an unchanged group, keeps its name.
5. A group in several parts moves to the part that holds most of it (ties: training before validation before
test), so that no slice is lost. Slices without a part stay without one.

The same name in two sources counts as two names.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import astuple, dataclass, fields
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
"""Codes of the checks that report these reasons."""


@dataclass(frozen=True, eq=False)
class GroupLink:
    """Slices that belong together for one reason.

    Attributes
    ----------
    code
        Code of the check that reports the reason.
    words
        The words that link two of the slices in a sentence, such as ``shows the same picture as``.
    places
        Sorted indices of the slices, at least two.
    name
        Name of the patient, group or origin; blank for pictures and guesses.
    """

    code: str
    words: str
    places: tuple[int, ...]
    name: str = ""


def find_links(material: Material, usable: Iterable[int], left: Iterable[int]) -> list[GroupLink]:
    """Find all reasons why slices belong together.

    Parameters
    ----------
    material
        All slices.
    usable
        Indices of the slices to use; the same name in two sources counts as two names.
    left
        Those of them that remain for a later audit, which also decide how common a name is.

    Returns
    -------
    The most reliable first: patients, groups that the manifest names, pictures, origins, and the guessed
    groups of slices that name no patient or group.
    """
    manifest = material.manifest.reset_index(drop=True)
    rows = manifest.loc[sorted(usable)]
    told = origins(manifest.loc[sorted(left)]).reindex(rows.index, fill_value="")
    told = told.where(told != "", origins(rows))
    sources = rows["source"]
    return [
        *_named(rows["patient"], sources, PATIENT, "belongs to the same patient, {}, as"),
        *(
            _named(rows["group"], sources, PATIENT, "belongs to the same group, {}, as")
            if "group" in rows
            else ()
        ),
        *_pictures(material, set(rows.index)),
        *_named(
            told, sources, ORIGIN, "is, according to its file name, from the same paper or series, {}, as"
        ),
        *_guessed(material, rows[named_groups(rows) == ""].index),
    ]


def joined(count: int, links: Iterable[GroupLink]) -> NDArray[np.intp]:
    """The group of each of ``count`` slices, numbered from 0; linked slices share one."""
    return clusters(count, ((link.places[0], place) for link in links for place in link.places[1:]))


def _named(names: "pd.Series[str]", sources: "pd.Series[str]", code: str, words: str) -> Iterator[GroupLink]:
    known = names[names != ""]
    for (_, name), slices in known.groupby([sources[known.index], known], sort=False):
        if len(slices) > 1:
            yield GroupLink(code, words.format(name), tuple(slices.index.tolist()), str(name))


def _pictures(material: Material, usable: Container[int]) -> Iterator[GroupLink]:
    for pair in material.duplicates:
        if pair.first in usable and pair.second in usable:
            same_file = pair.how == "same file"
            across = len(set(material.parts[[pair.first, pair.second]]) - {""}) == 2
            yield GroupLink(
                ACROSS if across else COPY if same_file else ALIKE,
                "is the same file as" if same_file else "shows the same picture as",
                (pair.first, pair.second),
            )


def _guessed(material: Material, unnamed: "pd.Index[int]") -> Iterator[GroupLink]:
    if len(unnamed):
        guess = pd.Series(material.hidden.groups).loc[unnamed]
        for _, slices in guess.groupby(guess):
            if len(slices) > 1:
                yield GroupLink(
                    GUESS, "probably (a guess) belongs to the same series as", tuple(slices.index.tolist())
                )


Places = NDArray[np.intp]


@dataclass(frozen=True)
class Change:
    """What happened to a slice, and why.

    Attributes
    ----------
    path
        Its file, absolute.
    what
        ``removed`` from the manifest, ``regrouped`` in the column ``group``, or ``moved`` to another part.
    code
        Code of the check that reports the reason.
    why
        A full sentence that names the other file, and the group if it has a name.
    before, after
        The group or the part. For a removed slice, ``before`` is the label, blank if the file cannot be read,
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
    The remaining manifest, in its order, index 0, 1, ..., with a column ``group`` if any slice was regrouped;
    and the changes: the unreadable files, then slices removed, regrouped and moved, each in the order of the
    rows.

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
    grouping = _Grouping(manifest, left, find_links(material, [*left, *copies], left))
    fixed = grouping.fixed()
    _refuse_empty_part(material.name, manifest, fixed)
    unreadable = [
        Change(str(error.path), "removed", UNREADABLE, f"It cannot be read: {error.problem}.", "", "")
        for error in material.unreadable
    ]
    return fixed, [*unreadable, *_removed(manifest, opposite, copies), *grouping.changes()]


def changes_table(changes: Iterable[Change]) -> pd.DataFrame:
    """The changes as a table of text, columns ``path, what, code, why, before, after``."""
    return pd.DataFrame(map(astuple, changes), columns=[field.name for field in fields(Change)], dtype=object)


def _same_files(material: Material) -> Places:
    equal = ((pair.first, pair.second) for pair in material.duplicates if pair.how == "same file")
    return clusters(len(material.truth), equal)


def _opposite(material: Material) -> dict[int, int]:
    """Indices of slices whose picture also has the opposite label, and of the slice with that label."""
    truth = material.truth
    found: dict[int, int] = {}
    for pair in material.duplicates:
        if truth[pair.first] != truth[pair.second]:
            found.setdefault(pair.first, pair.second)
            found.setdefault(pair.second, pair.first)
    files = _same_files(material)
    doubted = {files[place]: place for place in found}
    for place in np.flatnonzero(np.isin(files, list(doubted))).tolist():
        equal = doubted[files[place]]
        found.setdefault(place, found[equal] if truth[place] == truth[equal] else equal)
    return found


def _copies(material: Material, removed: Container[int]) -> dict[int, int]:
    """Indices of files that equal another one, and of the one that is kept."""
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
                f"It shows the same picture as {name}, which is labelled {labels[other]}; it is unknown which "
                "label is right."
            )
        else:
            across = len({parts[place], parts[other]} - {""}) == 2
            code = ACROSS if across else COPY
            why = f"It is the same file as {name}{f' of the {parts[other]} set' * across}, which is kept."
        yield Change(paths[place], "removed", code, why, labels[place], "")


def _name(manifest: pd.DataFrame, of: int, beside: int) -> str:
    """A file's name, with its folder if the file ``beside`` has the same name."""
    path, other = Path(manifest["path"][of]), Path(manifest["path"][beside])
    return f"{path.parent.name}/{path.name}" if path.name == other.name else path.name


class _Grouping:
    """Joins slices that belong together into groups, and moves each group into one part.

    Parameters
    ----------
    manifest
        All slices, index 0, 1, ....
    left
        Sorted indices of those that are not removed.
    links
        Links between slices, most reliable first.

    Attributes
    ----------
    names
        The new group of each slice whose group is not the same set of slices as before, by index.
    parts
        The new part of each slice that moves, by index.
    """

    def __init__(self, manifest: pd.DataFrame, left: Places, links: list[GroupLink]) -> None:
        self._manifest, self._left, self._links = manifest, left, links
        self._part = manifest["split"].to_numpy(dtype=str)
        self._named, self._group = named_groups(manifest), groups(manifest)
        self._old = pd.factorize(pd.MultiIndex.from_arrays([manifest["source"], self._group]))[0]
        self._new = joined(len(manifest), links)
        self._sure = joined(len(manifest), (link for link in links if link.code != GUESS))
        self._links_of: dict[int, list[int]] = {place: [] for place in range(len(manifest))}
        for rank, link in enumerate(links):
            for place in link.places:
                self._links_of[place].append(rank)
        by_group = pd.Series(left).groupby(self._new[left], sort=False)
        members = [places.to_numpy() for _, places in by_group if len(places) > 1]
        self.names = self._regrouped(members)
        self.parts = self._moved(members)

    def fixed(self) -> pd.DataFrame:
        """The remaining manifest, with the new groups and parts."""
        fixed = self._manifest.loc[self._left].copy()
        if self.names and "group" not in fixed:
            fixed["group"] = ""
        for column, values in (("group", self.names), ("split", self.parts)):
            if values:
                fixed.loc[list(values), column] = list(values.values())
        return fixed.reset_index(drop=True)

    def changes(self) -> Iterator[Change]:
        """The slices regrouped, then the slices moved."""
        paths = self._manifest["path"]
        for place, name in self.names.items():
            yield Change(paths[place], "regrouped", *self._why_regrouped(place), self._named[place], name)
        for place, part in self.parts.items():
            yield Change(paths[place], "moved", *self._why_moved(place, part), self._part[place], part)

    def _regrouped(self, groups_of_several: list[Places]) -> dict[int, str]:
        left = self._group[self._left]
        slices_of = {str(name): set(slices.index) for name, slices in left.groupby(left)}
        sizes = np.bincount(self._old[self._left])
        known, given = {*self._group, *self._manifest["patient"]}, set[str]()
        found: dict[int, str] = {}
        for members in groups_of_several:
            old = np.unique(self._old[members])
            if len(old) > 1 or sizes[old[0]] != len(members):
                name = self._own_name(members, slices_of, given) or self._free_name(members, known | given)
                given.add(name)
                found.update({place: name for place in members.tolist() if self._named[place] != name})
        return dict(sorted(found.items()))

    def _own_name(self, members: Places, slices_of: dict[str, set[int]], given: set[str]) -> str:
        """The name of the patient, group or origin with exactly these members; "" if none, or if others have it."""
        own, left = set(members.tolist()), set(self._left.tolist())
        for link in (self._links[rank] for rank in self._links_of[int(members[0])]):
            same = link.name not in {"", *given} and own == left.intersection(link.places)
            if same and slices_of.get(link.name, set()) <= own:
                return link.name
        return ""

    def _free_name(self, members: Places, taken: Container[str]) -> str:
        kind = "group" if len(np.unique(self._sure[members])) == 1 else "guess"
        names = (f"{kind}-{number:04d}" for number in count(1))
        return next(name for name in names if name not in taken)

    def _moved(self, groups_of_several: list[Places]) -> dict[int, str]:
        found: dict[int, str] = {}
        for members in groups_of_several:
            parts = self._part[members]
            target = PARTS[int(np.argmax([(parts == part).sum() for part in PARTS]))]
            found.update(dict.fromkeys(members[(parts != "") & (parts != target)].tolist(), target))
        return dict(sorted(found.items()))

    def _leads_out(self, place: int) -> tuple[int, int, int] | None:
        """The most reliable link of a slice with one of another old group: its rank, the slice, and the other
        one."""
        for rank in self._links_of[place]:
            for other in self._links[rank].places:
                if self._old[other] != self._old[place]:
                    return rank, place, other
        return None

    def _why_regrouped(self, place: int) -> tuple[str, str]:
        """The code of the check and the sentence."""
        way = self._leads_out(place)
        if way is None and self._named[place]:  # a block of numbers is not a reason
            mates = np.flatnonzero((self._old == self._old[place]) & (self._new == self._new[place])).tolist()
            way = min(filter(None, map(self._leads_out, mates)), default=None)
        if way is None:
            rank = self._links_of[place][0]
            way = rank, place, next(one for one in self._links[rank].places if one != place)
        rank, mate, other = way
        through = (
            f" belongs to {self._named[place]} with {self._file(mate, place)}, which" if mate != place else ""
        )
        return self._links[rank].code, f"It{through} {self._links[rank].words} {self._file(other, mate)}."

    def _why_moved(self, place: int, part: str) -> tuple[str, str]:
        """The code of the check and the sentence."""
        for link in (self._links[rank] for rank in self._links_of[place]):
            other = next((one for one in link.places if self._part[one] == part), None)
            if other is not None:
                code, reason = link.code, f"{link.words} {self._file(other, place)}"
                break
        else:
            there = self._left[(self._new[self._left] == self._new[place]) & (self._part[self._left] == part)]
            group = self.names.get(place, self._group[place])
            code = self._links[self._links_of[place][0]].code
            reason = f"belongs to {group} with {self._file(int(there[0]), place)}"
        return code, f"It {reason} in the {part} set, to which their group moves."

    def _file(self, of: int, beside: int) -> str:
        return _name(self._manifest, of, beside)


def _refuse_empty_class(name: str, manifest: pd.DataFrame, left: Places) -> None:
    for label in sorted(set(manifest["label"]) - set(manifest["label"][left])):
        raise GroundglassError(
            f"{name}: no slice of class {label} would be left, since each shows a picture that also has the "
            "opposite label (GG103); find out which labels are right and correct them"
        )


def _refuse_empty_part(name: str, manifest: pd.DataFrame, fixed: pd.DataFrame) -> None:
    for part in PARTS:
        if part in set(manifest["split"]) - set(fixed["split"]):
            raise GroundglassError(
                f"{name}: no slice would be left in the {part} set, since each is removed or belongs to a group "
                "that is also in another part; split again first with  groundglass data split DATASET --split "
                "grouped -o FILE"
            )
