"""Evaluations made up for tests."""

from groundglass.bundle.evaluation import (
    METRICS,
    OVERLAP_METRICS,
    Confusion,
    Estimate,
    Evaluation,
    Overlap,
    OverlapEvaluation,
)


def evaluation(auc: float | None = 0.5, low: float | None = None, high: float | None = None) -> Evaluation:
    """Nine slices, with this AUC and 0.5 for every other metric."""
    estimates = dict.fromkeys(METRICS, Estimate(value=0.5)) | {
        "roc_auc": Estimate(value=auc, low=low, high=high)
    }
    return Evaluation(
        unit="slice",
        count=9,
        positives=4,
        groups=9,
        resampled_by="slice",
        resamples=20,
        confidence=0.95,
        seed=0,
        metrics=estimates,
        confusion=Confusion(true_positive=2, false_positive=2, false_negative=2, true_negative=3),
    )


def overlap_evaluation(dice: float) -> OverlapEvaluation:
    """One case of three slices, with this Dice of its lungs."""
    metrics = dict.fromkeys(OVERLAP_METRICS["lungs"], Estimate(value=0.5)) | {"dice": Estimate(value=dice)}
    lungs = Overlap(cases=1, slices=3, metrics=metrics)
    return OverlapEvaluation(cases=1, slices=3, resamples=20, confidence=0.95, seed=0, parts={"lungs": lungs})
