"""Does the detector still tell the classes where it cannot see the lungs?"""

import numpy as np

from groundglass.audit.check import Check, Result
from groundglass.audit.measure.auc import TELLING, severity_of
from groundglass.audit.measure.changed import with_lungs_removed
from groundglass.audit.trial import Trial
from groundglass.evaluate.summary import format_estimate


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
