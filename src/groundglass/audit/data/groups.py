"""GG104, GG105 and GG107: patients, papers and guessed groups that are in more than one part of the split."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.data.duplicates import parts_in_words
from groundglass.audit.hidden_groups import origins
from groundglass.audit.material import Material
from groundglass.audit.measures import mean
from groundglass.bundle.evaluation import Estimate, format_estimate
from groundglass.data.manifest import PARTS
from groundglass.data.splits import named_groups
from groundglass.errors import count_of
from groundglass.evaluation.predictions import unit_codes

SHOWN = 12
"""Names that are shown with pictures."""
OF_EACH_PART = 2
"""Pictures of a name that are shown of each part."""
Places = NDArray[np.intp]
Rows = Iterable[tuple[str, ...]]


@dataclass(frozen=True)
class NamesInSeveralParts:
    """Names, such as patients, with slices in more than one part.

    Attributes
    ----------
    names
        Those names, the one with most slices first.
    places
        The slices of each of them that have a part, shape (its slices,).
    held_out
        The part that scores are given on: ``test``, or the last part if there is none.
    others
        The other parts, as ``train or val``.
    share
        The share of the held-out slices whose name is in another part too, with its interval by a bootstrap of
        whole names.
    """

    names: tuple[str, ...]
    places: tuple[Places, ...]
    held_out: str
    others: str
    share: Estimate

    @property
    def slices(self) -> Places:
        """Indices of all slices of these names, shape (slices,)."""
        return np.concatenate([np.empty(0, dtype=np.intp), *self.places])

    def sentence(self, one: str, several: str, of: str) -> str:
        """A sentence with the number of names, as ``one`` or ``several``, and the share of slices ``of`` them."""
        subject = one if len(self.names) == 1 else several
        return (
            f"{len(self.names)} {subject} in two parts of the split, with {len(self.slices)} slices; a share of "
            f"{format_estimate(self.share)} of the {self.held_out} slices has {of} in {self.others} too."
        )

    def shown(self, material: Material) -> list[NDArray[np.object_]]:
        """Files of each part for each of the first names."""
        return [
            material.paths[
                np.concatenate([places[material.parts[places] == part][:OF_EACH_PART] for part in PARTS])
            ]
            for places in self.places[:SHOWN]
        ]

    def counts(self, parts: NDArray[np.str_]) -> tuple[tuple[str, ...], ...]:
        """A row for each name: the name, and its slices in training, validation and test."""
        return tuple(
            (name, *(str(int((parts[places] == part).sum())) for part in PARTS))
            for name, places in zip(self.names, self.places, strict=True)
        )


def in_several_parts(
    material: Material, names: "pd.Series[str]", sources: NDArray[np.object_]
) -> NamesInSeveralParts:
    """Find names with slices in more than one part of a split.

    Parameters
    ----------
    material
        Slices with two parts at least.
    names
        The name of each slice, blank if it has none; the same name in two sources counts as two.
    sources
        The source of each slice, shape (slices,).
    """
    parts, named = material.parts, names.to_numpy(dtype=object)
    places = pd.Series(np.arange(len(parts)))[(named != "") & (parts != "")]
    found = [
        (str(name), at.to_numpy(dtype=np.intp))
        for (_, name), at in places.groupby([sources[places], named[places]])
        if len(np.unique(parts[at])) > 1
    ]
    found.sort(key=lambda one: -len(one[1]))
    among = np.zeros(len(parts), dtype=bool)
    among[[place for _, at in found for place in at]] = True
    held_out, others = parts_in_words(material)
    held = parts == held_out
    units = unit_codes(np.where(named == "", "", sources + "\n" + named)[held])
    return NamesInSeveralParts(
        tuple(name for name, _ in found),
        tuple(at for _, at in found),
        held_out,
        others,
        mean(among[held], units),
    )


def _sources(material: Material) -> NDArray[np.object_]:
    return material.manifest["source"].to_numpy(dtype=object)


COLUMNS = ("patient", "group")
"""Columns of the manifest; the second is optional."""


class _InTwoParts(Check[Material]):
    def found(
        self, material: Material, found: NamesInSeveralParts, of: str, rows: Rows, **values: object
    ) -> Result:
        """The result of a search for names in several parts; ``of`` says what the names are."""
        return self.result(
            self.severity if found.names else None,
            found.share,
            files=material.paths[found.slices],
            side_by_side=found.shown(material),
            rows=rows,
            found=found,
            of=of,
            **values,
        )


class PatientInTwoParts(_InTwoParts):
    """Looks for patients, and groups that the manifest names, in more than one part."""

    code = "GG104"

    def run(self, material: Material) -> Result:
        """Compare the parts of the slices of each patient and group."""
        manifest = material.manifest
        columns = [column for column in COLUMNS if column in manifest and (manifest[column] != "").any()]
        if not columns:
            raise NotApplicable("The manifest names no patients or groups.")
        found = {
            column: in_several_parts(material, manifest[column], _sources(material)) for column in columns
        }
        column, worst = max(found.items(), key=lambda item: len(item[1].slices))
        sentences = [
            one.sentence(f"{name} is", f"{name}s are", f"its {name}")
            if one.names
            else f"No {name} is in two parts of the split."
            for name, one in found.items()
        ]
        if unnamed := int((manifest[columns] == "").all(axis=1).sum()):
            sentences.append(f"Without a patient or group, and so not checked: {count_of(unnamed, 'slice')}.")
        # Numbered, since no id of a patient may go into a report.
        rows = [
            (f"{name} {number}", *counts)
            for name, one in found.items()
            for number, (_, *counts) in enumerate(one.counts(material.parts), start=1)
        ]
        return self.found(material, worst, column, rows, sentences=sentences)


NAMED = 3
"""Papers and series that are named in the message."""


class OriginInTwoParts(_InTwoParts):
    """Looks for papers and series, as recognised from file names, in more than one part."""

    code = "GG105"

    def run(self, material: Material) -> Result:
        """Compare the parts of the files of each paper or series."""
        names = origins(material.manifest)
        known = names[names != ""]
        if known.empty:
            raise NotApplicable("The file names give no paper or series.")
        found = in_several_parts(material, names, _sources(material))
        listed = f"of them ({', '.join(found.names[:NAMED])}{', ...' * (len(found.names) > NAMED)})"
        return self.found(
            material,
            found,
            "paper or series",
            found.counts(material.parts),
            known=len(known),
            names=len(names),
            origins=known.nunique(),
            sentence=found.names and found.sentence(f"{listed} is", f"{listed} are", "its paper or series"),
        )


ROWS = 30
"""Groups in the table, the largest first."""
PICTURES = 6
"""Pictures that are shown of a group."""


class UnnamedGroups(_InTwoParts):
    """Guesses groups, such as patients, if they are not named, and compares them with those that are."""

    code = "GG107"

    def run(self, material: Material) -> Result:
        """Guess groups, and look at how the split treats them."""
        unnamed = (named_groups(material.manifest) == "").to_numpy(dtype=bool)
        return self._guessed(material, unnamed) if unnamed.any() else self._compared(material)

    def _guessed(self, material: Material, unnamed: NDArray[np.bool_]) -> Result:
        groups, sizes = material.hidden.groups, material.hidden.sizes
        several = (sizes > 1) & (np.bincount(groups[unnamed], minlength=len(sizes)) > 0)
        if not several.any():
            raise NotApplicable(
                "Patients are unknown, and no groups can be guessed: there are too few slices, or neighbours in "
                "the order of the files are no more alike than other slices."
            )
        values = {"unnamed": unnamed, "guessed": sizes[several].tolist(), "alone": (sizes == 1).sum()}
        values["median"] = np.median(sizes[several])
        if len(set(material.parts) - {""}) > 1:
            names = pd.Series(groups.astype(str)).where(several[groups], "")
            found = in_several_parts(material, names, np.full(len(names), "", dtype=object))
            words = ("of them is", "of them are", "other slices of its guessed group")
            sentence = found.names and found.sentence(*words)
            rows = _rows(material, map(int, found.names))
            return self.found(material, found, "guessed group", rows, sentence=sentence, **values)
        largest = [int(group) for group in np.argsort(-sizes, kind="stable") if several[group]]
        return self.result(
            "warning",
            Estimate(value=float(several[groups].mean())),
            side_by_side=[_pictures(material, group) for group in largest[:SHOWN]],
            rows=_rows(material, largest),
            found=None,
            separated=_separated(material, largest),
            **values,
        )

    def _compared(self, material: Material) -> Result:
        """Patients are known: report pairs of different patients that look like one picture."""
        hidden, names = material.hidden, named_groups(material.manifest).to_numpy(dtype=object)
        guessed = np.concatenate([hidden.neighbours, hidden.repeats])
        if not len(guessed):
            raise NotApplicable(
                "Every slice names its patient or group, and no groups can be guessed to compare with: there are "
                "too few slices, or neighbours in the order of the files are no more alike than other slices."
            )
        pairs = hidden.repeats[names[hidden.repeats[:, 0]] != names[hidden.repeats[:, 1]]]
        return self.result(
            "note" if len(pairs) else None,
            Estimate(value=float((names[guessed[:, 0]] == names[guessed[:, 1]]).mean())),
            files=material.paths[np.unique(pairs)],
            side_by_side=[material.paths[pair] for pair in pairs[:SHOWN]],
            rows=[(Path(material.paths[a]).name, Path(material.paths[b]).name) for a, b in pairs],
            found=None,
            guessed=(),
            pairs=len(pairs),
        )


def _separated(material: Material, groups: list[int]) -> int | None:
    """How many guessed groups a split by the known groups could separate; None if no groups are known."""
    if not np.bincount(material.units).max() > 1:
        return None
    within = pd.Series(material.units).groupby(material.hidden.groups).nunique()
    return int((within[groups] > 1).sum())


def _pictures(material: Material, group: int) -> NDArray[np.object_]:
    """Evenly spaced files of a group, from its first to its last."""
    members = np.flatnonzero(material.hidden.groups == group)
    chosen = np.unique(np.linspace(0, len(members) - 1, PICTURES).round().astype(int))
    return material.paths[members[chosen]]


def _rows(material: Material, groups: Iterable[int]) -> Iterator[tuple[str, ...]]:
    for group in islice(groups, ROWS):
        members = np.flatnonzero(material.hidden.groups == group)
        names = [Path(path).name for path in material.paths[members[[0, -1]]]]
        parts = pd.Series(material.parts[members]).replace("", "none").value_counts()
        yield *names, str(len(members)), ", ".join(f"{part} {count}" for part, count in parts.items())
