"""Does the verdict hold where a slice is changed in a way that changes nothing of the diagnosis?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import Check, Result, Severity
from groundglass.audit.measure.changed import answers, some_of
from groundglass.audit.measure.changes import ROBUSTNESS, Change
from groundglass.audit.measure.figures import mean, surely_over
from groundglass.audit.trial import Trial
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.summary import format_estimate

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
