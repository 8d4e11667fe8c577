"""Does the answer go with the lungs, or with what is around them?"""

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import Check, Result
from groundglass.audit.measure.auc import auc, severity_of
from groundglass.audit.measure.changed import Composed, with_backgrounds_swapped
from groundglass.audit.measure.figures import renumbered
from groundglass.audit.trial import Trial
from groundglass.evaluate.summary import format_estimate
from groundglass.labels import NEGATIVE, POSITIVE


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
