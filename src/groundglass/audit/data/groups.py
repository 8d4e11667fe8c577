"""GG104: whether slices of one patient lie in two parts of the split."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.bonds import SHOWN, Torn, torn
from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.hidden_groups import SAME, origins
from groundglass.audit.material import Material
from groundglass.data.manifest import PARTS
from groundglass.data.splits import named_groups
from groundglass.evaluate.evaluation import Estimate, format_estimate

COLUMNS = ("patient", "group")
"""Of the manifest, the second one where it is there."""


class PatientInTwoParts(Check[Material]):
    """Looks for patients, and groups that the manifest names, in more than one part."""

    code = "GG104"
    title = "Patient in two parts"
    severity = "error"
    needs = ("two parts",)
    remedy = (
        "Divide anew with the patients kept together (split grouped), and train and test again: scores on this "
        "split are too good."
    )

    def run(self, material: Material) -> Result:
        """Compare the parts of the slices of each patient and group."""
        manifest = material.manifest
        columns = [column for column in COLUMNS if column in manifest and (manifest[column] != "").any()]
        if not columns:
            raise NotApplicable("The manifest names no patient and no group.")
        found = {column: torn(manifest[column], manifest["source"], material.parts) for column in columns}
        column, worst = max(found.items(), key=lambda item: len(item[1].slices))
        unnamed = int((manifest[columns] == "").all(axis=1).sum())
        return Result(
            "error" if worst.names else None,
            " ".join([*(_sentence(name, one) for name, one in found.items()), *_unknown(unnamed)]),
            worst.share,
            f"share of the {worst.held_out} slices whose {column} is in {worst.others} too",
            files=tuple(material.paths[worst.slices].tolist()),
            side_by_side=worst.pictures(material.paths, material.parts),
            header=("Which", *(part.capitalize() for part in PARTS)),
            # Numbered, since no id of a patient goes into a report.
            rows=tuple(
                (f"{name} {number}", *counts)
                for name, one in found.items()
                for number, (_, *counts) in enumerate(one.counts(material.parts), start=1)
            ),
        )


def _sentence(column: str, one: Torn) -> str:
    if not one.names:
        return f"No {column} lies in two parts of the split."
    lie = f"{column} lies" if len(one.names) == 1 else f"{column}s lie"
    return (
        f"{len(one.names)} {lie} in two parts of the split, with {len(one.slices)} slices; of the {one.held_out} "
        f"slices a share of {format_estimate(one.share)} has its {column} in {one.others} too."
    )


def _unknown(unnamed: int) -> list[str]:
    return [f"{unnamed} slices name neither and are not judged."] if unnamed else []


NAMED = 3
"""Origins that are named in the message."""


class OriginInTwoParts(Check[Material]):
    """Looks for papers and series, as the files' names tell them, in more than one part."""

    code = "GG105"
    title = "Paper or series in two parts"
    severity = "warning"
    needs = ("two parts",)
    remedy = (
        "Write the paper or series into the column group of the manifest and divide anew with groups kept "
        "together: pictures of one paper share scanner, window, crop and often the patient."
    )

    def run(self, material: Material) -> Result:
        """Compare the parts of the files of each origin."""
        told = origins(material.manifest)
        if (told == "").all():
            raise NotApplicable("The names of the files tell of no paper or series.")
        found = torn(told, material.manifest["source"], material.parts)
        known = int((told != "").sum())
        return Result(
            "warning" if found.names else None,
            f"{known} of {len(told)} file names tell of a paper or series, {told[told != ''].nunique()} in all. "
            f"{_origins_sentence(found)}",
            found.share,
            f"share of the {found.held_out} slices whose paper or series is in {found.others} too",
            files=tuple(material.paths[found.slices].tolist()),
            side_by_side=found.pictures(material.paths, material.parts),
            header=("Paper or series", *(part.capitalize() for part in PARTS)),
            rows=found.counts(material.parts),
        )


def _origins_sentence(found: Torn) -> str:
    if not found.names:
        return "None of them lies in two parts of the split."
    more = ", ..." if len(found.names) > NAMED else ""
    lie = "lies" if len(found.names) == 1 else "lie"
    return (
        f"{len(found.names)} of them {lie} in two parts ({', '.join(found.names[:NAMED])}{more}), with "
        f"{len(found.slices)} slices; of the {found.held_out} slices a share of {format_estimate(found.share)} has "
        f"its paper or series in {found.others} too."
    )


ROWS = 30
"""Groups in the table, the largest first."""
PICTURES = 6
"""Pictures that are shown of a group."""
HEADER = ("First", "Last", "Slices", "Parts")

Places = NDArray[np.intp]


class HiddenGroups(Check[Material]):
    """Guesses groups, such as patients, where they are not named, and compares with those that are."""

    code = "GG107"
    title = "Groups that the manifest does not name"
    severity = "warning"
    remedy = (
        "Ask where the slices come from and fill the column patient; until then write guessed groups into the "
        "column group and keep them together. Look at the pictures first: the groups are a guess."
    )

    def run(self, material: Material) -> Result:
        """Guess groups, and look how the split treats them."""
        unnamed = (named_groups(material.manifest) == "").to_numpy(dtype=bool)
        return _guessed(material, unnamed) if unnamed.any() else _compared(material)


def _guessed(material: Material, unnamed: NDArray[np.bool_]) -> Result:
    sizes = material.hidden.sizes
    several = sizes > 1
    several &= np.bincount(material.hidden.groups[unnamed], minlength=len(sizes)) > 0
    if not several.any():
        raise NotApplicable(
            "Patients are not known, and no groups can be guessed: slices are too few, or neighbours in the order "
            "of the files are no more alike than others."
        )
    guess = (
        f"{unnamed.sum()} of {len(unnamed)} slices name no patient or group. From the order of the files and the "
        f"likeness of neighbours, {several.sum()} groups of several slices are guessed, of "
        f"{np.median(sizes[several]):.0f} slices in the median and {sizes[several].max()} at most; "
        f"{(sizes == 1).sum()} slices stay alone. It is a guess."
    )
    divided = len(set(material.parts) - {""}) > 1
    return _in_parts(material, several, guess) if divided else _undivided(material, several, guess)


def _in_parts(material: Material, several: NDArray[np.bool_], guess: str) -> Result:
    names = pd.Series(material.hidden.groups.astype(str)).where(several[material.hidden.groups], "")
    found = torn(names, pd.Series("", index=names.index), material.parts)
    groups = [int(name) for name in found.names]
    sentence = (
        f"{len(groups)} of them lie in two parts of the split; of the {found.held_out} slices a share of "
        f"{format_estimate(found.share)} has others of its guessed group in {found.others}."
    )
    return Result(
        "warning" if groups else None,
        f"{guess} {sentence if groups else 'None of them lies in two parts of the split.'}",
        found.share,
        f"share of the {found.held_out} slices whose guessed group is in {found.others} too",
        files=tuple(material.paths[found.slices].tolist()),
        side_by_side=found.pictures(material.paths, material.parts),
        header=HEADER,
        rows=_rows(material, groups),
    )


def _undivided(material: Material, several: NDArray[np.bool_], guess: str) -> Result:
    groups = [int(group) for group in np.argsort(-material.hidden.sizes, kind="stable") if several[group]]
    share = float(several[material.hidden.groups].mean())
    return Result(
        "warning",
        f"{guess} A split that does not know them tears them: {share:.0%} of the slices are in one."
        f"{_by_own_groups(material, groups)}",
        Estimate(value=share),
        "share of the slices that lie in a guessed group of several",
        side_by_side=tuple(_pictures(material, group) for group in groups[:SHOWN]),
        header=HEADER,
        rows=_rows(material, groups),
    )


def _by_own_groups(material: Material, groups: list[int]) -> str:
    """How the groups that a grouped split would keep together fit the guess."""
    if not np.bincount(material.units).max() > 1:
        return ""
    within = pd.Series(material.units).groupby(material.hidden.groups).nunique()
    return (
        f" A split by the groups that are known so far could tear {int((within[groups] > 1).sum())} of them."
    )


def _members(material: Material, group: int) -> Places:
    return np.flatnonzero(material.hidden.groups == group)


def _pictures(material: Material, group: int) -> tuple[str, ...]:
    """Files of a group from its first to its last, evenly."""
    members = _members(material, group)
    chosen = np.unique(np.linspace(0, len(members) - 1, PICTURES).round().astype(int))
    return tuple(material.paths[members[chosen]].tolist())


def _rows(material: Material, groups: list[int]) -> tuple[tuple[str, ...], ...]:
    rows = []
    for group in groups[:ROWS]:
        members = _members(material, group)
        names = [Path(path).name for path in material.paths[members[[0, -1]]]]
        parts = pd.Series(material.parts[members]).replace("", "none").value_counts()
        rows.append(
            (*names, str(len(members)), ", ".join(f"{part} {count}" for part, count in parts.items()))
        )
    return tuple(rows)


def _compared(material: Material) -> Result:
    """Patients are known: tell of pairs of different patients that look like one picture or one series."""
    hidden, names = material.hidden, named_groups(material.manifest).to_numpy(dtype=object)
    if not len(hidden.pairs):
        raise NotApplicable(
            "Every slice names its patient or group, and no groups can be guessed to compare with: slices are too "
            "few, or neighbours in the order of the files are no more alike than others."
        )
    first, second = hidden.pairs.T
    one_patient = names[first] == names[second]
    doubtful = hidden.pairs[~one_patient & (hidden.likeness >= SAME)]
    pairs = np.unique(np.sort(doubtful, axis=1), axis=0)
    share = float(one_patient.mean())
    return Result(
        "note" if len(pairs) else None,
        f"Every slice names its patient or group. Of the pairs of slices that look as if they belonged together, "
        f"{share:.0%} are of one patient. {_doubt(len(pairs))}",
        Estimate(value=share),
        "share of the pairs that are guessed to belong together which are of one patient",
        files=tuple(material.paths[np.unique(pairs)].tolist()),
        side_by_side=tuple(tuple(material.paths[pair].tolist()) for pair in pairs[:SHOWN]),
        header=("One slice", "Slice of another patient"),
        rows=tuple((Path(material.paths[a]).name, Path(material.paths[b]).name) for a, b in pairs),
    )


def _doubt(count: int) -> str:
    if not count:
        return "No two patients look so alike that an id is in doubt."
    pairs = "pair" if count == 1 else "pairs"
    return (
        f"{count} {pairs} of different patients are so alike that they may be one picture or one series: an id may "
        "be wrong. This is a guess."
    )
