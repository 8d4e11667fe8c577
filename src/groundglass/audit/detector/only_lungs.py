"""Does the detector lose its skill where it sees nothing but the lungs?"""

from groundglass.audit.check import Check, Result
from groundglass.audit.measure.changed import with_lungs_changed
from groundglass.audit.measure.changes import only_lungs
from groundglass.audit.measure.figures import auc_drop, surely_over
from groundglass.audit.trial import Trial
from groundglass.evaluate.summary import format_estimate

TELLING = 0.10
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
        found = surely_over(drop, TELLING)
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
