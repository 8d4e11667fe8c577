"""Does the verdict hold where a slice is changed in a way that changes nothing of the diagnosis?"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.changes import ROBUSTNESS, Change, answers, some_of
from groundglass.audit.check import Check, NotApplicable, Result, Severity
from groundglass.audit.measures import mean, surely_over
from groundglass.audit.trial import Trial
from groundglass.bundle.fingerprints import ALIKE, Fingerprints, file_print, mirrored, nearest, picture_print
from groundglass.evaluate.evaluation import Estimate, format_estimate

MOST_SLICES = 200
NOTED, TELLING = 5.0, 10.0
"""Flips of a hundred verdicts that, if they are sure, are worth a note and a warning."""


@dataclass(frozen=True)
class _Shaken:
    """What a change does: flips of a hundred verdicts, change of the probability, and which slices flip."""

    name: str
    flips: Estimate
    shift: Estimate
    flipped: NDArray[np.bool_]


class Robustness(Check[Trial]):
    """Flips of a hundred verdicts under harmless changes.

    A note where the worst change surely flips over 5 of a hundred, a warning where over 10.
    """

    code = "GG206"
    title = "Verdict flips under harmless changes"
    severity = "warning"
    remedy = (
        "Train with the changes that flip verdicts as augmentation, and report slices near the threshold as "
        "uncertain."
    )

    def run(self, subject: Trial) -> Result:
        """Look."""
        places = some_of(np.arange(len(subject.paths)), MOST_SLICES, subject.material.seed)
        shaken = [_shaken(subject, places, name, change) for name, change in ROBUSTNESS.items()]
        shaken.sort(key=lambda one: one.flips.value or 0, reverse=True)
        worst = shaken[0]
        return Result(
            _severity(worst.flips),
            f"The verdict of {format_estimate(worst.flips, 1)} in a hundred slices flips when the slice is "
            f"{worst.name}: the worst of {len(shaken)} harmless changes, tried on {len(places)} slices. The median "
            f"of the changes flips {np.median([one.flips.value or 0 for one in shaken]):.1f}.",
            figure=worst.flips,
            measure="verdicts in a hundred that the worst harmless change flips",
            files=tuple(subject.paths[place] for place in places[worst.flipped]),
            header=("change", "flips in a hundred verdicts", "mean change of the probability"),
            rows=tuple(
                (one.name, format_estimate(one.flips, 1), format_estimate(one.shift)) for one in shaken
            ),
        )


def _shaken(trial: Trial, places: NDArray[np.intp], name: str, change: Change) -> _Shaken:
    before = trial.probability[places]
    after = answers(trial, (change(trial.scans[place].pixels) for place in places))
    flipped = (before >= trial.threshold) != (after >= trial.threshold)
    units, seed = trial.units[places], trial.material.seed
    return _Shaken(name, mean(100.0 * flipped, units, seed), mean(after - before, units, seed), flipped)


def _severity(flips: Estimate) -> Severity | None:
    if surely_over(flips, TELLING):
        return "warning"
    return "note" if surely_over(flips, NOTED) else None


FILE, PICTURE, MIRRORED = "the same file", "the same picture", "the same picture mirrored"
"""How a slice was known again, the surest first."""


class SeenInTraining(Check[Trial]):
    """Slices known again by the fingerprints of the training and validation part that the bundle holds.

    An error wherever there is one.
    """

    code = "GG210"
    title = "Tested on what it was trained on"
    severity = "error"
    remedy = (
        "Leave the slices below out of the test, and all others of their patients, and give the figures without "
        "them; then look for how they got into both parts."
    )

    def run(self, subject: Trial) -> Result:
        """Look; raises NotApplicable where the bundle holds no fingerprints."""
        known = subject.detector.bundle.fingerprints
        if known is None:
            raise NotApplicable(
                "The bundle holds no fingerprints of the slices that it was trained on: it was exported by an "
                "earlier version. Exporting its run anew adds them."
            )
        paths = [str(path) for path in subject.material.paths]
        how, where, apart = _known_again(paths, subject.material.looks.grey, known)
        rows = tuple(
            (
                paths[row],
                str(how[row]),
                "validation" if known.validation[where[row]] else "training",
                f"{apart[row]}",
            )
            for row in sorted(np.flatnonzero(how != ""), key=lambda row: (apart[row], row))
        )
        return Result(
            "error" if rows else None,
            _message(how, [row[2] for row in rows], len(paths), len(known)),
            figure=Estimate(value=float(len(rows))),
            measure="slices known from the training or validation part",
            files=tuple(row[0] for row in rows),
            header=("file", "is", "of the part", f"bits that differ, at most {ALIKE}"),
            rows=rows,
        )


def _known_again(
    paths: list[str], grey: NDArray[np.uint8], known: Fingerprints
) -> tuple[NDArray[np.str_], NDArray[np.intp], NDArray[np.intp]]:
    """How each slice is known again, "" for not, the place in ``known``, and how many bits differ."""
    pictures = np.array([picture_print(picture) for picture in grey])
    apart, where = nearest(pictures, known.pictures)
    turned, elsewhere = nearest(mirrored(pictures), known.pictures)
    how = np.where(apart <= ALIKE, PICTURE, np.where(turned <= ALIKE, MIRRORED, ""))
    where, apart = np.where(how == MIRRORED, elsewhere, where), np.where(how == MIRRORED, turned, apart)
    places = {one.tobytes(): place for place, one in enumerate(known.files)}
    for row, path in enumerate(paths):
        place = places.get(file_print(Path(path)).tobytes())
        if place is not None:
            how[row], where[row], apart[row] = FILE, place, 0
    return how, where, apart


def _message(how: NDArray[np.str_], parts: list[str], tested: int, known: int) -> str:
    patients = "Whether other slices show the same patients, fingerprints cannot tell."
    if not parts:
        return (
            f"None of the {tested} slices is among the {known} of the training and validation part, by file or by "
            f"picture, mirrored too. {patients}"
        )
    told = ", ".join(f"{(how == kind).sum()} as {kind}" for kind in (FILE, PICTURE, MIRRORED))
    return (
        f"{len(parts)} of the {tested} slices tested are among the {known} that the detector was trained and "
        f"chosen on: {told}; {parts.count('training')} of the training part, {parts.count('validation')} of the "
        f"validation part. Its answers to them are no test. {patients}"
    )
