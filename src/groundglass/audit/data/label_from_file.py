"""GG108: whether a file's header tells the label before a pixel is seen."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from joblib import parallel_config  # type: ignore[import-untyped]
from numpy.typing import NDArray

from groundglass.audit.check import Check, Result, Severity
from groundglass.audit.headers import COLUMNS, FLAG, NUMBER, TEXT, header_features
from groundglass.audit.material import Material
from groundglass.audit.measures import severity_of
from groundglass.audit.telling import HEADER, Told, measure_name, row, told
from groundglass.evaluate.evaluation import format_estimate
from groundglass.labels import NEGATIVE, POSITIVE

TREES = 100
"""Grown for each fold."""
FEW_TREES = 15
"""Grown for a column by itself, which has one feature or a few."""
OF_BYTES = ("bytes", "bytes_per_pixel")
"""Columns that follow what the picture shows too, since a busy one takes more bytes; alone they are no error."""
EVERYTHING, WITHOUT_BYTES = "all columns", "all columns but the bytes"
KINDS = 5
"""A column of numbers with at most so many different ones is told as kinds, not as a median."""
GIVEN_AWAY = 0.05
"""Share of a class from which on a kind that no other class has is named as a give-away."""
LEAST_GROUPS = 5
"""Groups that a give-away must come from: that fewer are of one class is common by chance."""


@dataclass(frozen=True)
class _Giveaway:
    """A kind that one class has and the other has not; ``has``: bool, shape (slices,)."""

    column: str
    kind: str
    label: str
    has: NDArray[np.bool_]

    def __str__(self) -> str:
        return f"All {self.has.sum()} files with {self.column} {self.kind} are {self.label}."


class LabelFromFile(Check[Material]):
    """Tells the label from headers with trees: from all columns, and from each by itself."""

    code = "GG108"
    title = "Label from the file alone"
    severity = "error"
    needs = ("two classes",)
    remedy = (
        "Take both classes from one place in one form; saving all files anew in one format and size hides the "
        "header, but the traces of the old format and size stay in the pixels, so report the source of each class."
    )

    def run(self, material: Material) -> Result:
        """Tell the label from the header's columns, together and one by one."""
        headers = material.headers
        varying = headers[[name for name in headers if len(headers[name].drop_duplicates()) > 1]]
        if varying.columns.empty:
            return Result(None, "The headers of all files are alike, so they say nothing about the label.")
        together = _each_group(varying, material)
        alone = _each_alone(varying, material)
        everything = together[EVERYTHING]
        severity = _severity(everything, together.get(WITHOUT_BYTES))
        given_away = _giveaways(varying, material) if severity else []
        files = material.paths[np.any([one.has for one in given_away], axis=0)] if given_away else ()
        return Result(
            severity,
            " ".join([_message(severity, together, alone), *map(str, given_away[:2])]),
            everything.crossed,
            measure_name(everything),
            files=tuple(files),
            header=(*HEADER, "Difference"),
            rows=(
                *((*row(name, one), "") for name, one in together.items()),
                *(
                    (*row(_words(name), one), _difference(varying[name], material.truth))
                    for name, one in alone.items()
                ),
            ),
        )


def _tell(headers: pd.DataFrame, material: Material, trees: int) -> Told:
    features, _ = header_features(headers)
    # Trees of so few features are grown faster than threads are started.
    with parallel_config(backend="sequential"):
        return told(features, material.truth, material.units, material.parts, material.seed, trees)


def _each_group(headers: pd.DataFrame, material: Material) -> dict[str, Told]:
    """How well all columns together tell the label, and those that owe nothing to the picture."""
    groups = {EVERYTHING: headers, WITHOUT_BYTES: headers.drop(columns=list(OF_BYTES), errors="ignore")}
    return {name: _tell(group, material, TREES) for name, group in groups.items() if not group.columns.empty}


def _each_alone(headers: pd.DataFrame, material: Material) -> dict[str, Told]:
    """How well each column tells the label by itself, the best first."""
    alone = {str(name): _tell(headers[[name]], material, FEW_TREES) for name in headers}
    return dict(sorted(alone.items(), key=lambda item: -(item[1].crossed.value or 0)))


def _severity(everything: Told, without_bytes: Told | None) -> Severity | None:
    sure = severity_of(without_bytes.crossed) if without_bytes else None
    return sure or ("warning" if severity_of(everything.crossed) else None)


def _message(severity: Severity | None, together: dict[str, Told], alone: dict[str, Told]) -> str:
    verdict = "is told" if severity else "is not surely told"
    everything, without_bytes = together[EVERYTHING], together.get(WITHOUT_BYTES)
    held_out = (
        f", and on the test part, after training on the training part, with AUC "
        f"{format_estimate(everything.held_out)}"
        if everything.held_out
        else ""
    )
    bytes_left_out = (
        f" Without the bytes, which follow what the picture shows too, the AUC is "
        f"{format_estimate(without_bytes.crossed)}."
        if without_bytes
        else ""
    )
    best, best_told = next(iter(alone.items()))
    return (
        f"From the header alone (size, format, bytes and the like, no pixel) the label {verdict}, with AUC "
        f"{format_estimate(everything.crossed)}{held_out}.{bytes_left_out} Of single columns {_words(best)} tells "
        f"most, with AUC {format_estimate(best_told.crossed)}."
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _is_measured(column: "pd.Series[Any]") -> bool:
    return COLUMNS[str(column.name)] == NUMBER and column.nunique() > KINDS


def _kinds(column: "pd.Series[Any]") -> "pd.Series[str]":
    """Each value as a word: numbers without needless digits, ``yes`` and ``no``, ``none`` where there is none."""
    words = {True: "yes", False: "no"} if column.dtype == "boolean" else {}
    return pd.Series(
        ["none" if pd.isna(value) or value == "" else words.get(value, _short(value)) for value in column]
    )


def _short(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _difference(column: "pd.Series[Any]", truth: NDArray[np.bool_]) -> str:
    """What each class has in a column, such as ``covid: PNG 100%; not covid: PNG 48%, JPEG 52%``."""
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
    """Kinds that one class has and the other has not, the most common first, each set of files by one name."""
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
