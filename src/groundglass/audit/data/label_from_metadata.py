"""GG108 and GG112: whether a file's header or a scan's source reveals the label without any pixel."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats.contingency import association
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.headers import COLUMNS, FLAG, NUMBER, TEXT, header_features
from groundglass.audit.label_prediction import (
    FOLDS,
    LEAF,
    LabelPrediction,
    predict_from,
    predict_label,
)
from groundglass.audit.material import Material
from groundglass.audit.measures import estimated
from groundglass.audit.picture_features import grey_statistics, thumbnail
from groundglass.bundle.evaluation import Estimate
from groundglass.evaluation.bootstrap import Floats, ratio
from groundglass.evaluation.predictions import unit_codes
from groundglass.labels import NEGATIVE, POSITIVE

TREES = 100
"""Trees per fold."""
FEW_TREES = 15
"""Trees per fold for a single column, which has one feature or a few."""
OF_BYTES = ("bytes", "bytes_per_pixel")
"""Columns that also depend on the picture's content, since detail takes more bytes; alone they are not an error."""
EVERYTHING, WITHOUT_BYTES = "all columns", "all columns except the file size"
KINDS = 5
"""A numerical column with at most this many distinct values is described by them, not by a median."""
GIVEN_AWAY = 0.05
"""A value that only one class has is named as a give-away if at least this share of the class has it."""
LEAST_GROUPS = 5
"""A give-away must come from at least this many groups: fewer are often all of one class by chance."""


@dataclass(frozen=True)
class _Giveaway:
    """A value that only one class has; ``has``: bool, shape (slices,)."""

    column: str
    kind: str
    label: str
    has: NDArray[np.bool_]

    def __str__(self) -> str:
        return f"All {self.has.sum()} files with {self.column} {self.kind} are {self.label}."


class LabelFromFile(Check[Material]):
    """Predicts the label from headers with trees: from all columns, and from each alone."""

    code = "GG108"

    def run(self, material: Material) -> Result:
        """Predict the label from the header's columns, together and each alone."""
        headers = material.headers
        varying = headers[[name for name in headers if len(headers[name].drop_duplicates()) > 1]]
        if varying.columns.empty:
            return Result(None, "The headers of all files are alike, so they reveal nothing about the label.")
        groups = {EVERYTHING: varying, WITHOUT_BYTES: varying.drop(columns=list(OF_BYTES), errors="ignore")}
        together = {name: _predict(of, material, TREES) for name, of in groups.items() if len(of.columns)}
        alone = {str(name): _predict(varying[[name]], material, FEW_TREES) for name in varying}
        alone = dict(sorted(alone.items(), key=lambda item: -(item[1].cross_validated.value or 0)))
        everything, without_bytes = together[EVERYTHING], together.get(WITHOUT_BYTES)
        severity = (without_bytes and without_bytes.severity) or ("warning" if everything.severity else None)
        given_away = _giveaways(varying, material) if severity else []
        best, best_alone = next(iter(alone.items()))
        return self.result(
            severity,
            everything.cross_validated,
            files=material.paths[np.any([one.has for one in given_away], axis=0)] if given_away else (),
            rows=[
                *((*one.row(name), "") for name, one in together.items()),
                *(
                    (*one.row(_words(name)), _difference(varying[name], material.truth))
                    for name, one in alone.items()
                ),
            ],
            prediction=everything,
            without_bytes=without_bytes,
            best=_words(best),
            best_alone=best_alone,
            given_away=given_away[:2],
        )


def _predict(headers: pd.DataFrame, material: Material, trees: int) -> LabelPrediction:
    return predict_from(material, header_features(headers)[0], trees=trees)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _is_measured(column: "pd.Series[Any]") -> bool:
    return COLUMNS[str(column.name)] == NUMBER and column.nunique() > KINDS


def _kinds(column: "pd.Series[Any]") -> "pd.Series[str]":
    """Each value as a word: numbers without needless digits, ``yes`` and ``no``, ``none`` if there is none."""
    words = {True: "yes", False: "no"} if column.dtype == "boolean" else {}
    return pd.Series(
        ["none" if pd.isna(value) or value == "" else words.get(value, _short(value)) for value in column]
    )


def _short(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _difference(column: "pd.Series[Any]", truth: NDArray[np.bool_]) -> str:
    """The values of each class in a column, such as ``covid: PNG 100%; not covid: PNG 48%, JPEG 52%``."""
    typical = _median if _is_measured(column) else _shares
    return f"{POSITIVE}: {typical(column[truth])}; {NEGATIVE}: {typical(column[~truth])}"


def _median(column: "pd.Series[Any]") -> str:
    known = column.dropna()
    if known.empty:
        return "none"
    absent = f", none in {1 - len(known) / len(column):.0%}" if len(known) < len(column) else ""
    return f"median {_short(known.median())}{absent}"


def _shares(column: "pd.Series[Any]") -> str:
    shares = _kinds(column).value_counts(normalize=True)
    return ", ".join(f"{kind} {share:.0%}" for kind, share in shares.head(KINDS).items())


def _giveaways(headers: pd.DataFrame, material: Material) -> list[_Giveaway]:
    """Values that only one class has, the most common first; each set of files is listed by one of its values."""
    found: dict[bytes, _Giveaway] = {}
    for one in _one_sided(headers, material):
        found.setdefault(one.has.tobytes(), one)
    return sorted(found.values(), key=lambda one: -one.has.sum())


def _one_sided(headers: pd.DataFrame, material: Material) -> Iterator[_Giveaway]:
    truth = material.truth
    for name in sorted(headers, key=lambda name: (TEXT, FLAG, NUMBER).index(COLUMNS[str(name)])):
        kinds = _kinds(headers[name])
        if _is_measured(headers[name]):
            continue
        for kind in sorted(set(kinds) - {"none"}):
            has = (kinds == kind).to_numpy()
            for label, of_class in ((POSITIVE, truth), (NEGATIVE, ~truth)):
                share = (has & of_class).sum() / of_class.sum()
                groups = len(np.unique(material.units[has]))
                if not (has & ~of_class).any() and share >= GIVEN_AWAY and groups >= LEAST_GROUPS:
                    yield _Giveaway(_words(str(name)), kind, label, has)


SOURCE_TREES = 50
"""Trees per fold: enough to see whether sources look different, and quick with many of them."""
NO_NAME = "not named"


class SourceAndLabel(Check[Material]):
    """Predicts the label from the source, and the source from the picture."""

    code = "GG112"

    def run(self, material: Material) -> Result:
        """Predict the label from the source, and the source from the picture.

        With several classes, each class against the rest is predicted, and the most predictable one is reported.
        """
        labels = material.manifest["label"]
        sources = material.manifest["source"].replace("", NO_NAME)
        several = sorted(set(labels)) if labels.nunique() > 2 else []
        predictions = dict(_classes_from_sources(material, several or [POSITIVE], sources))
        worst = max(predictions, key=lambda name: _lowest(predictions[name].cross_validated))
        shown = labels if several else labels.where(labels == POSITIVE, NEGATIVE)
        counts = pd.crosstab(sources, shown).reindex(columns=several or [POSITIVE, NEGATIVE])
        counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
        covid = counts[POSITIVE]
        accuracy, known = _source_from_picture(material, sources.to_numpy(dtype=str))
        return self.result(
            predictions[worst].severity,
            predictions[worst].cross_validated,
            rows=[
                (source, sum(row), *(row if several else row[:1]), f"{covid[source] / sum(row):.0%}")
                for source, *row in counts.itertuples()
            ],
            prediction=predictions[worst],
            worst=worst,
            several=several,
            predictions=predictions,
            cramer=association(counts),
            accuracy=accuracy,
            chance=1 / max(known, 1),
            one_sided=covid.isin([0]) | (covid == counts.sum(axis=1)),
        )


def _classes_from_sources(
    material: Material, classes: list[str], sources: "pd.Series[str]"
) -> Iterator[tuple[str, LabelPrediction]]:
    """Each class, and how well the source predicts it against the rest.

    Classes of a single group are left out; NotApplicable if COVID-19 is one.
    """
    features = pd.get_dummies(sources, dtype=float).to_numpy()
    for name in classes:
        truth = (material.manifest["label"] == name).to_numpy(dtype=bool)
        try:
            yield name, predict_label(features, truth, material.units, seed=material.seed, trees=SOURCE_TREES)
        except NotApplicable:
            if name == POSITIVE:
                raise


def _lowest(figure: Estimate) -> float:
    """The lower end of a figure's interval, its value if there is none."""
    return float((figure.low if figure.low is not None else figure.value) or 0)


def _source_from_picture(material: Material, sources: NDArray[np.str_]) -> tuple[Estimate | None, int]:
    """Balanced accuracy of predicting the source from the picture, and the number of sources with two groups."""
    groups = {source: len(np.unique(material.units[sources == source])) for source in np.unique(sources)}
    known = [source for source, count in groups.items() if count > 1]
    if len(known) < 2:
        return None, len(known)
    kept = np.isin(sources, known)
    folds = min(FOLDS, *(groups[source] for source in known))
    grey, sources = material.pictures.grey[kept], sources[kept]
    units = unit_codes(material.units[kept].astype(str))
    answers = cross_val_predict(
        ExtraTreesClassifier(
            SOURCE_TREES,
            min_samples_leaf=LEAF,
            class_weight="balanced",
            random_state=material.seed,
            n_jobs=-1,
        ),
        np.hstack([thumbnail(grey), grey_statistics(grey)]),
        sources,
        groups=units,
        cv=StratifiedGroupKFold(folds, shuffle=True, random_state=material.seed),
    )
    return _balanced_accuracy(sources, answers, units, material.seed), len(known)


def _balanced_accuracy(
    sources: NDArray[np.str_], answers: NDArray[np.str_], units: NDArray[np.intp], seed: int
) -> Estimate:
    """The mean over sources of the share of correct answers."""
    of_source = (sources[:, None] == np.unique(sources)).astype(float)
    right = of_source * (sources == answers)[:, None]

    def mean_share(weights: Floats) -> Floats:
        return np.asarray(np.nanmean(ratio(weights @ right, weights @ of_source), axis=1))

    return estimated(mean_share, units, seed)
