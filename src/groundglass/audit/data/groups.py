"""GG104, GG105 and GG107: patients, papers and guessed groups that are in more than one part of the split."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.check import Check, NotApplicable, Result, Severity
from groundglass.audit.data.duplicates import parts_in_words
from groundglass.audit.hidden_groups import origins
from groundglass.audit.material import Material
from groundglass.audit.measures import mean
from groundglass.bundle.evaluation import Estimate, format_estimate
from groundglass.data.manifest import PARTS
from groundglass.data.splits import named_groups
from groundglass.evaluation.predictions import unit_codes

SHOWN = 12
"""Names that are shown with pictures."""
OF_EACH_PART = 2
"""Pictures of a name that are shown of each part."""
Places = NDArray[np.intp]


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
        The part that scores are given on: ``test``, or the last part where there is none.
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
        """Places of all slices of these names, shape (slices,)."""
        return np.concatenate([np.empty(0, dtype=np.intp), *self.places])

    def sentence(self, one: str, several: str, of: str) -> str:
        """How many names there are, as ``one`` or ``several`` of them, and the share of slices ``of`` them."""
        subject = one if len(self.names) == 1 else several
        return (
            f"{len(self.names)} {subject} in two parts of the split, with {len(self.slices)} slices; a share of "
            f"{format_estimate(self.share)} of the {self.held_out} slices has {of} in {self.others} too."
        )

    def result(
        self,
        material: Material,
        severity: Severity,
        message: str,
        of: str,
        header: tuple[str, ...],
        rows: tuple[tuple[str, ...], ...],
    ) -> Result:
        """The result of a check that looks for such names; ``of`` says what they are."""
        shown = [
            np.concatenate([places[material.parts[places] == part][:OF_EACH_PART] for part in PARTS])
            for places in self.places[:SHOWN]
        ]
        return Result(
            severity if self.names else None,
            message,
            self.share,
            f"share of the {self.held_out} slices whose {of} is in {self.others} too",
            files=tuple(material.paths[self.slices].tolist()),
            side_by_side=tuple(tuple(material.paths[places].tolist()) for places in shown),
            header=header,
            rows=rows,
        )

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
        Of each slice, blank where it has none; the same name in two sources is two names.
    sources
        Of each slice, shape (slices,).
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
"""Of the manifest, the second one where it has it."""


class PatientInTwoParts(Check[Material]):
    """Looks for patients, and groups that the manifest names, in more than one part."""

    code = "GG104"
    title = "Patient in two parts"
    severity = "error"
    needs = ("two parts",)
    remedy = (
        "Divide again with the patients kept together (split grouped), then train and test again: scores on this "
        "split are too good."
    )

    def run(self, material: Material) -> Result:
        """Compare the parts of the slices of each patient and group."""
        manifest = material.manifest
        columns = [column for column in COLUMNS if column in manifest and (manifest[column] != "").any()]
        if not columns:
            raise NotApplicable("The manifest names no patient and no group.")
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
            sentences.append(f"{unnamed} slices name neither and are not judged.")
        # Numbered, since no id of a patient may go into a report.
        rows = tuple(
            (f"{name} {number}", *counts)
            for name, one in found.items()
            for number, (_, *counts) in enumerate(one.counts(material.parts), start=1)
        )
        header = ("Which", *(part.capitalize() for part in PARTS))
        return worst.result(material, "error", " ".join(sentences), column, header, rows)


NAMED = 3
"""Papers and series that are named in the message."""


class OriginInTwoParts(Check[Material]):
    """Looks for papers and series, as far as file names give them, in more than one part."""

    code = "GG105"
    title = "Paper or series in two parts"
    severity = "warning"
    needs = ("two parts",)
    remedy = (
        "Write the paper or series into the column group of the manifest and divide again with groups kept "
        "together: pictures of one paper share scanner, window, crop and often the patient."
    )

    def run(self, material: Material) -> Result:
        """Compare the parts of the files of each paper or series."""
        names = origins(material.manifest)
        known = names[names != ""]
        if known.empty:
            raise NotApplicable("The file names give no paper or series.")
        found = in_several_parts(material, names, _sources(material))
        listed = ", ".join(found.names[:NAMED]) + ", ..." * (len(found.names) > NAMED)
        sentence = (
            found.sentence(f"of them ({listed}) is", f"of them ({listed}) are", "its paper or series")
            if found.names
            else "None of them is in two parts of the split."
        )
        return found.result(
            material,
            "warning",
            f"{len(known)} of {len(names)} file names give a paper or series, {known.nunique()} in all. {sentence}",
            "paper or series",
            ("Paper or series", *(part.capitalize() for part in PARTS)),
            found.counts(material.parts),
        )


ROWS = 30
"""Groups in the table, the largest first."""
PICTURES = 6
"""Pictures that are shown of a group."""
HEADER = ("First", "Last", "Slices", "Parts")


class UnnamedGroups(Check[Material]):
    """Guesses groups, such as patients, where they are not named, and compares them with those that are."""

    code = "GG107"
    title = "Groups that the manifest does not name"
    severity = "warning"
    remedy = (
        "Find out where the slices come from and fill the column patient. Until then, write guessed groups into "
        "the column group and keep them together. Look at the pictures first: the groups are a guess."
    )

    def run(self, material: Material) -> Result:
        """Guess groups, and look at how the split treats them."""
        unnamed = (named_groups(material.manifest) == "").to_numpy(dtype=bool)
        return _guessed(material, unnamed) if unnamed.any() else _compared(material)


def _guessed(material: Material, unnamed: NDArray[np.bool_]) -> Result:
    groups, sizes = material.hidden.groups, material.hidden.sizes
    several = (sizes > 1) & (np.bincount(groups[unnamed], minlength=len(sizes)) > 0)
    if not several.any():
        raise NotApplicable(
            "Patients are unknown, and no groups can be guessed: there are too few slices, or neighbours in the "
            "order of the files are no more alike than other slices."
        )
    guess = (
        f"{unnamed.sum()} of {len(unnamed)} slices name no patient or group. The order of the files and the "
        f"likeness of neighbours suggest {several.sum()} groups of several slices, with a median of "
        f"{np.median(sizes[several]):.0f} slices and {sizes[several].max()} at most; {(sizes == 1).sum()} slices "
        "stay alone. This is a guess."
    )
    if len(set(material.parts) - {""}) > 1:
        names = pd.Series(groups.astype(str)).where(several[groups], "")
        found = in_several_parts(material, names, np.full(len(names), "", dtype=object))
        sentence = (
            found.sentence("of them is", "of them are", "other slices of its guessed group")
            if found.names
            else "None of them is in two parts of the split."
        )
        rows = _rows(material, map(int, found.names))
        return found.result(material, "warning", f"{guess} {sentence}", "guessed group", HEADER, rows)
    largest = [int(group) for group in np.argsort(-sizes, kind="stable") if several[group]]
    share = float(several[groups].mean())
    return Result(
        "warning",
        f"{guess} A split that ignores them separates their slices: {share:.0%} of all slices are in one."
        f"{_by_own_groups(material, largest)}",
        Estimate(value=share),
        "share of the slices in a guessed group of several",
        side_by_side=tuple(_pictures(material, group) for group in largest[:SHOWN]),
        header=HEADER,
        rows=_rows(material, largest),
    )


def _by_own_groups(material: Material, groups: list[int]) -> str:
    """How the groups that a grouped split would keep together fit the guess."""
    if not np.bincount(material.units).max() > 1:
        return ""
    within = pd.Series(material.units).groupby(material.hidden.groups).nunique()
    return f" A split by the groups that are known so far could separate {int((within[groups] > 1).sum())} of them."


def _pictures(material: Material, group: int) -> tuple[str, ...]:
    """Files of a group from its first to its last, evenly."""
    members = np.flatnonzero(material.hidden.groups == group)
    chosen = np.unique(np.linspace(0, len(members) - 1, PICTURES).round().astype(int))
    return tuple(material.paths[members[chosen]].tolist())


def _rows(material: Material, groups: Iterable[int]) -> tuple[tuple[str, ...], ...]:
    rows = []
    for group in islice(groups, ROWS):
        members = np.flatnonzero(material.hidden.groups == group)
        names = [Path(path).name for path in material.paths[members[[0, -1]]]]
        parts = pd.Series(material.parts[members]).replace("", "none").value_counts()
        cell = ", ".join(f"{part} {count}" for part, count in parts.items())
        rows.append((*names, str(len(members)), cell))
    return tuple(rows)


def _compared(material: Material) -> Result:
    """Patients are known: report pairs of different patients that look like one picture."""
    hidden, names = material.hidden, named_groups(material.manifest).to_numpy(dtype=object)
    guessed = np.concatenate([hidden.neighbours, hidden.repeats])
    if not len(guessed):
        raise NotApplicable(
            "Every slice names its patient or group, and no groups can be guessed to compare with: there are too "
            "few slices, or neighbours in the order of the files are no more alike than other slices."
        )
    share = float((names[guessed[:, 0]] == names[guessed[:, 1]]).mean())
    pairs = hidden.repeats[names[hidden.repeats[:, 0]] != names[hidden.repeats[:, 1]]]
    doubt = (
        f"{len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'} of different patients show the same picture, or "
        "nearly: an id may be wrong. This is a guess."
        if len(pairs)
        else "No two patients look so alike that an id is in doubt."
    )
    return Result(
        "note" if len(pairs) else None,
        "Every slice names its patient or group. Of the pairs of slices that seem to belong together, "
        f"{share:.0%} are of one patient. {doubt}",
        Estimate(value=share),
        "share of the pairs that are guessed to belong together which are of one patient",
        files=tuple(material.paths[np.unique(pairs)].tolist()),
        side_by_side=tuple(tuple(material.paths[pair].tolist()) for pair in pairs[:SHOWN]),
        header=("One slice", "Slice of another patient"),
        rows=tuple((Path(material.paths[a]).name, Path(material.paths[b]).name) for a, b in pairs),
    )
