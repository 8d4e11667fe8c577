"""Does the detector still tell the classes where it cannot see the lungs?"""

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.changes import (
    Composed,
    only_lungs,
    with_backgrounds_swapped,
    with_lungs_changed,
    with_lungs_removed,
)
from groundglass.audit.check import Check, Result
from groundglass.audit.measures import TELLING, auc, auc_drop, renumbered, severity_of, surely_over
from groundglass.audit.trial import Trial
from groundglass.evaluate.evaluation import format_estimate
from groundglass.labels import NEGATIVE, POSITIVE


class LungsRemoved(Check[Trial]):
    """AUC with a black box over both lungs (Maguolo & Nanni 2021, doi 10.1016/j.inffus.2021.04.008).

    A warning where it surely passes 0.60, an error from 0.75 on.
    """

    code = "GG201"
    title = "Answers without lungs"
    severity = "error"
    needs = ("two classes", "lungs")
    remedy = (
        "Find out what tells the classes outside the lungs (GG203 and GG204 help, and the audit of the training "
        "data), and train on slices where the classes do not differ in it, or on the lungs alone."
    )

    def run(self, subject: Trial) -> Result:
        """Look; raises NotApplicable where too few slices show lungs, or the detector sees nothing else."""
        changed = with_lungs_removed(subject)
        whole, removed = changed.aucs(subject.material.seed)
        severity = severity_of(removed)
        doubt = severity is None and (removed.high or 0) >= TELLING
        still = changed.truth & (changed.after >= subject.threshold)
        falling = np.flatnonzero(still)[np.argsort(-changed.after[still], kind="stable")]
        return Result(
            severity,
            f"With a black box over the lungs the detector {'still tells' if severity else 'tells'} the classes "
            f"with AUC {format_estimate(removed)}; on the same {len(changed.places)} slices as they are, with "
            f"{format_estimate(whole)}. Without lungs nothing of the disease is seen, so it should be near 0.5."
            + (f" So few slices do not rule out {TELLING:.2f} and more." if doubt else ""),
            figure=removed,
            measure="AUC with the lungs blacked out",
            files=tuple(subject.paths[changed.places[row]] for row in falling) if severity else (),
            header=("slices", "AUC"),
            rows=(("whole", format_estimate(whole)), ("lungs blacked out", format_estimate(removed))),
        )


TELLING_DROP = 0.10
"""Loss of AUC from which on, if it is sure, the detector must have used what lies outside the lungs."""


class OnlyLungs(Check[Trial]):
    """Loss of AUC where all outside the lungs is black; a warning where it surely passes 0.10."""

    code = "GG202"
    title = "Loses its skill when only the lungs are left"
    severity = "warning"
    needs = ("two classes", "lungs")
    remedy = (
        "Train with the background masked or varied (preprocessing lungs: mask or crop), and look at GG201: "
        "skill without lungs tells a shortcut from mere surprise at the black."
    )

    def run(self, subject: Trial) -> Result:
        """Look; raises NotApplicable where too few slices show lungs."""
        changed = with_lungs_changed(subject, only_lungs)
        seed = subject.material.seed
        whole, only = changed.aucs(seed)
        drop = auc_drop(changed.truth, changed.before, changed.after, changed.units, seed)
        found = surely_over(drop, TELLING_DROP)
        return Result(
            "warning" if found else None,
            f"With all but the lungs blacked out the AUC goes from {format_estimate(whole)} to "
            f"{format_estimate(only)} on {len(changed.places)} slices: a loss of {format_estimate(drop)}."
            + (
                " It leans on what lies outside the lungs, or the black there confuses it; GG201 tells which."
                if found
                else ""
            ),
            figure=drop,
            measure="loss of AUC with only the lungs left",
            header=("slices", "AUC"),
            rows=(("whole", format_estimate(whole)), ("only the lungs", format_estimate(only))),
        )


class BackgroundsSwapped(Check[Trial]):
    """Lungs on backgrounds of both classes: AUC against the background's label.

    A warning where it surely passes 0.60, an error from 0.75 on.
    """

    code = "GG203"
    title = "Follows the background"
    severity = "error"
    needs = ("two classes", "lungs")
    remedy = (
        "Train on slices whose surroundings do not tell the class: of the same scanners, sizes and windows in "
        "both classes, or cropped to the lungs or masked; then look again."
    )

    def run(self, subject: Trial) -> Result:
        """Look; raises NotApplicable where too few slices show lungs."""
        composed = with_backgrounds_swapped(subject)
        truth, units, seed = subject.truth, subject.units, subject.material.seed
        by_lungs, by_background = (
            auc(truth[of], composed.probability, renumbered(units[of]), seed)
            for of in (composed.lungs, composed.backgrounds)
        )
        return Result(
            severity_of(by_background),
            f"Lungs of {len(composed.lungs) // 2} slices were put on a background of each class. The answer tells "
            f"the label of the lungs with AUC {format_estimate(by_lungs)}, and that of the background, which says "
            f"nothing of them, with {format_estimate(by_background)}.",
            figure=by_background,
            measure="AUC against the background's label",
            header=("lungs", f"mean probability on a {POSITIVE} background", f"on a {NEGATIVE} background"),
            rows=tuple(_row(composed, truth, label) for label in (True, False)),
        )


def _row(composed: Composed, truth: NDArray[np.bool_], label: bool) -> tuple[str, str, str]:
    """Mean probabilities of lungs of one class, on a background of either."""
    means = []
    for other in (True, False):
        chosen = (truth[composed.lungs] == label) & (truth[composed.backgrounds] == other)
        means.append(f"{composed.probability[chosen].mean():.2f}")
    return POSITIVE if label else NEGATIVE, means[0], means[1]
