"""GG112: whether the source of a scan gives its label away, and whether the picture shows the source."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats.contingency import association
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from groundglass.audit.check import Check, Result
from groundglass.audit.material import Material
from groundglass.audit.measure.auc import CONFIDENCE, RESAMPLES, severity_of
from groundglass.audit.measure.regions import grey_statistics, thumbnail
from groundglass.audit.measure.telling import measure_name
from groundglass.audit.measure.told import FOLDS, LEAF, Told, told
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.metrics import estimate, resample
from groundglass.evaluate.predictions import unit_codes
from groundglass.evaluate.summary import format_estimate
from groundglass.evaluate.weighted import Floats, ratio
from groundglass.labels import POSITIVE

TREES = 50
"""Grown for each fold: enough to tell whether sources look different, and quick with many of them."""
NO_NAME = "not named"


class SourceAndLabel(Check[Material]):
    """Tells the label from the source, and the source from the picture."""

    code = "GG112"
    title = "Source against label"
    severity = "error"
    needs = ("two classes", "two sources")
    remedy = (
        "Take scans of both classes from every source, in like shares, or give figures within each source and for "
        "a source that was not trained on."
    )

    def run(self, material: Material) -> Result:
        """Tell the label from the source, the source from the picture."""
        sources = material.manifest["source"].replace("", NO_NAME)
        label_told = told(
            pd.get_dummies(sources, dtype=float).to_numpy(),
            material.truth,
            material.units,
            seed=material.seed,
            trees=TREES,
        )
        counts = _counts(sources, material.truth)
        cramer = association(counts.assign(rest=counts["slices"] - counts["covid"])[["covid", "rest"]])
        picture = _picture(material, sources.to_numpy(dtype=str))
        return Result(
            severity_of(label_told.crossed),
            f"{_label(label_told, cramer)} {picture} {_pure(counts)}".rstrip(),
            label_told.crossed,
            measure_name(label_told),
            header=("Source", "Slices", POSITIVE.capitalize(), "Share"),
            rows=tuple(
                (str(source), str(slices), str(covid), f"{covid / slices:.0%}")
                for source, slices, covid in counts.itertuples()
            ),
        )


def _counts(sources: "pd.Series[str]", truth: NDArray[np.bool_]) -> pd.DataFrame:
    """Slices of each source, and those of COVID-19; the largest source first."""
    grouped = pd.Series(truth, index=sources.index).groupby(sources)
    counts = pd.DataFrame({"slices": grouped.size(), "covid": grouped.sum()})
    return counts.sort_values("slices", ascending=False, kind="stable")


def _label(label_told: Told, cramer: float) -> str:
    verdict = "is told" if severity_of(label_told.crossed) else "is not surely told"
    return (
        f"From the source alone, without the picture, the label {verdict}: AUC "
        f"{format_estimate(label_told.crossed)}, Cramer's V {cramer:.2f}."
    )


def _pure(counts: pd.DataFrame) -> str:
    one_sided = counts["covid"].isin([0]) | (counts["covid"] == counts["slices"])
    if one_sided.all():
        return (
            "Every source holds one class only: the label is the source, and no figure on these scans can tell "
            "the disease from the place that the picture comes from."
        )
    return f"{one_sided.sum()} of {len(counts)} sources hold one class only." if one_sided.any() else ""


def _picture(material: Material, sources: NDArray[np.str_]) -> str:
    """How well the source is told from the picture, of the sources that have two groups."""
    groups = {source: len(np.unique(material.units[sources == source])) for source in np.unique(sources)}
    known = [source for source, count in groups.items() if count > 1]
    if len(known) < 2:
        return "Whether pictures show their source cannot be told: fewer than two sources have two groups."
    kept = np.isin(sources, known)
    folds = min(FOLDS, *(groups[source] for source in known))
    accuracy = _told_apart(
        material.looks.grey[kept],
        sources[kept],
        unit_codes(material.units[kept].astype(str)),
        folds,
        material.seed,
    )
    return (
        f"From a thumbnail and grey levels the source is told with balanced accuracy {format_estimate(accuracy)}, "
        f"where chance is {1 / len(known):.2f}."
    )


def _told_apart(
    grey: NDArray[np.uint8], sources: NDArray[np.str_], units: NDArray[np.intp], folds: int, seed: int
) -> Estimate:
    """Balanced accuracy of sources told by trees that were grown without a slice's group."""
    answers = cross_val_predict(
        ExtraTreesClassifier(
            TREES, min_samples_leaf=LEAF, class_weight="balanced", random_state=seed, n_jobs=-1
        ),
        np.hstack([thumbnail(grey), grey_statistics(grey)]),
        sources,
        groups=units,
        cv=StratifiedGroupKFold(folds, shuffle=True, random_state=seed),
    )
    return _balanced_accuracy(sources, answers, units, seed)


def _balanced_accuracy(
    sources: NDArray[np.str_], answers: NDArray[np.str_], units: NDArray[np.intp], seed: int
) -> Estimate:
    """The mean of each source's share of right answers, with its interval by a bootstrap of whole units."""
    of_source = (sources[:, None] == np.unique(sources)).astype(float)
    right = of_source * (sources == answers)[:, None]

    def mean_share(weights: Floats) -> dict[str, Floats]:
        return {"accuracy": np.nanmean(ratio(weights @ right, weights @ of_source), axis=1)}

    value = float(mean_share(np.ones((1, len(sources))))["accuracy"][0])
    return estimate(value, resample(mean_share, units, RESAMPLES, seed)["accuracy"], CONFIDENCE)
