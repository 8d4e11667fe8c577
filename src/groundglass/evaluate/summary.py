"""An evaluation as rows of text, for the terminal and the report alike."""

from groundglass.evaluate.evaluation import METRICS, Estimate, Evaluation
from groundglass.labels import NEGATIVE, POSITIVE


def summary_rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Name and value of what was counted and of every metric, such as ("ROC AUC", "0.87 (0.81 to 0.92)").

    In brackets stands the bootstrap interval. What each name means is in
    :data:`~groundglass.evaluate.evaluation.METRICS`, under the metric's key.
    """
    unit = f"{evaluation.unit}s".capitalize()
    confusion = evaluation.confusion
    drawn = f"{evaluation.resamples} bootstrap resamples of {evaluation.groups} {evaluation.resampled_by}s"
    basis = f"{evaluation.confidence:.0%}, {drawn}" if evaluation.groups > 1 else "none"
    return [
        (unit, f"{evaluation.count}, of which {evaluation.positives} {POSITIVE}"),
        (f"True {POSITIVE}, false {POSITIVE}", f"{confusion.true_positive}, {confusion.false_positive}"),
        (f"True {NEGATIVE}, false {NEGATIVE}", f"{confusion.true_negative}, {confusion.false_negative}"),
        *(
            (metric.title, format_estimate(evaluation.metrics[name], metric.digits))
            for name, metric in METRICS.items()
        ),
        ("Intervals", basis),
    ]


def format_estimate(estimate: Estimate, digits: int = 2) -> str:
    """A value and its interval, such as "0.87 (0.81 to 0.92)"; "undefined" where there is no value."""
    if estimate.value is None:
        return "undefined"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"
