"""Does the threshold that was chosen on the validation part serve here?"""

from typing import ClassVar

from groundglass.audit.check import Check, NotApplicable, Result, Severity
from groundglass.audit.measure.rechosen import Rechosen, rechosen
from groundglass.audit.trial import Trial
from groundglass.evaluate.evaluation import METRICS, Estimate, Evaluation
from groundglass.evaluate.metrics import evaluate
from groundglass.evaluate.summary import format_estimate
from groundglass.labels import NEGATIVE, POSITIVE

CHANCE = 0.5
"""Balanced accuracy of a coin."""
TOLERATED = 0.05
"""Balanced accuracy that a threshold from elsewhere may cost."""
RESAMPLES = 1000
SHOWN = ("sensitivity", "specificity", "balanced_accuracy", "ppv", "npv", "roc_auc")


class ThresholdCarriesOver(Check[Trial]):
    """Sensitivity, specificity and balanced accuracy at the bundle's threshold, and what a better one would give.

    An error where the verdicts may be no better than chance: the lower end of the balanced accuracy is 0.5 or less.
    A warning where the threshold surely costs over 0.05 of balanced accuracy.
    """

    code = "GG208"
    title = "Threshold does not carry over"
    severity = "error"
    needs: ClassVar = ("two classes",)
    remedy = (
        "Do not use the verdicts on such slices. Where the AUC here is good, choose the threshold anew on labelled "
        "slices of the place of use that are not tested on; where it is near 0.5, no threshold helps."
    )

    def run(self, subject: Trial) -> Result:
        """Look; raises NotApplicable where a class comes from fewer than five groups."""
        answers = subject.predictions
        answered = answers["verdict"].isin((POSITIVE, NEGATIVE)).to_numpy(dtype=bool)
        truth = subject.material.truth[answered]
        if truth.all() or not truth.any():
            raise NotApplicable("The detector answers no slice of one of the classes.")
        probability = answers["probability"].to_numpy(dtype=float)[answered]
        units, seed = subject.material.units[answered], subject.material.seed
        compared = rechosen(truth, probability, units, subject.threshold, seed)
        here = evaluate(answers, resamples=RESAMPLES, seed=seed)
        validation = subject.detector.bundle.facts.validation
        return Result(
            _severity(compared),
            _message(subject.threshold, here, compared, validation),
            figure=compared.given,
            measure="balanced accuracy at the bundle's threshold",
            header=("figure", "here", "on its validation part"),
            rows=_rows(here, validation),
        )


def _severity(compared: Rechosen) -> Severity | None:
    sure = compared.given.value if compared.given.low is None else compared.given.low
    if sure is not None and sure <= CHANCE:
        return "error"
    return "warning" if compared.lost.low is not None and compared.lost.low > TOLERATED else None


def _message(threshold: float, here: Evaluation, compared: Rechosen, validation: dict[str, str]) -> str:
    named = ("sensitivity", "specificity")
    found = ", ".join(f"{name} {format_estimate(here.metrics[name])}" for name in named)
    before = [
        f"{name} {validation[METRICS[name].title]}" for name in named if METRICS[name].title in validation
    ]
    told = f" (on its validation part {', '.join(before)})" if before else ""
    chance = "" if _severity(compared) != "error" else ", which may be no better than chance"
    return (
        f"At the bundle's threshold of {threshold:.2f} balanced accuracy is {format_estimate(compared.given)}"
        f"{chance}, with {found}{told}. A threshold chosen here, for each slice without those of its group, would "
        f"give {format_estimate(compared.chosen)}, {_cost(compared.lost)}; "
        f"{compared.best:.2f} would be best here, but may not be used: the same slices would choose and judge it."
    )


def _cost(lost: Estimate) -> str:
    dear = lost.value is not None and lost.value > 0
    return "so that the bundle's costs " + (format_estimate(lost) if dear else "nothing")


def _rows(here: Evaluation, validation: dict[str, str]) -> tuple[tuple[str, ...], ...]:
    titles = {name: METRICS[name].title for name in SHOWN}
    return tuple(
        (title, format_estimate(here.metrics[name]), validation.get(title, "not recorded"))
        for name, title in titles.items()
    )
