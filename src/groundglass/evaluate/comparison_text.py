"""A comparison as text: a table, a frame of plain numbers, and a sentence."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from types import MappingProxyType

import pandas as pd

from groundglass.errors import GroundglassError
from groundglass.evaluate.comparison import (
    BEST,
    ENSEMBLE,
    INDISTINGUISHABLE,
    UNTESTED,
    WORSE,
    Comparison,
    Standing,
)
from groundglass.evaluate.evaluation import METRICS
from groundglass.evaluate.paired import PairedTest
from groundglass.evaluate.summary import format_estimate

Extra = Mapping[str, Mapping[str, object]]
"""By system and column: what else is known, such as its parameters and speed."""
NOTHING_ELSE: Extra = MappingProxyType({})
SHOWN = {"accuracy": "Accuracy", "sensitivity": "Sensitivity", "specificity": "Specificity", "f1": "F1"}
"""The metrics beside AUC that the table shows, and how it calls them."""
HEADER = (
    "System",
    "AUC",
    "AUC by member",
    *SHOWN.values(),
    "AUC against the best",
    "Accuracy against the best",
)


def comparison_table(
    comparison: Comparison, extra: Extra = NOTHING_ELSE
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the table of standings, the ensemble last.

    Values stand with their bootstrap interval in brackets, differences with that of the test, and p-values are
    Holm's. The columns of ``extra`` follow in order of first appearance, blank where a system has none.

    Raises
    ------
    GroundglassError
        If ``extra`` names a system that is not compared.
    """
    columns = _extra_columns(comparison, extra)
    rows = [
        (*_cells(standing), *(str(extra.get(standing.name, {}).get(column, "")) for column in columns))
        for standing in comparison.standings
    ]
    return (*HEADER, *columns), rows


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, with a line end at its end; pipes in cells are escaped, line ends become spaces."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(_escaped(cell) for cell in line)} |\n" for line in lines)


def comparison_frame(comparison: Comparison, extra: Extra = NOTHING_ELSE) -> pd.DataFrame:
    """The standings as plain numbers, a row a system, the ensemble last.

    Returns
    -------
    ``system``, ``members``; every metric as ``NAME``, ``NAME_low``, ``NAME_high``; ``roc_auc_least`` and
    ``roc_auc_greatest`` among the members; for ``auc`` and ``accuracy`` the best's less this one's as
    ``NAME_difference``, ``NAME_difference_low``, ``NAME_difference_high``, with ``NAME_p`` and, after Holm's
    correction, ``NAME_p_holm``; ``verdict``; the columns of ``extra``. What is not known is missing.

    Raises
    ------
    GroundglassError
        If ``extra`` names a system that is not compared.
    """
    columns = _extra_columns(comparison, extra)
    rows = []
    for standing in comparison.standings:
        row: dict[str, object] = {"system": standing.name, "members": standing.members}
        for name, estimate in standing.metrics.items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        row["roc_auc_least"], row["roc_auc_greatest"] = standing.auc_spread
        row |= _test_numbers("auc", standing.auc_test, standing.auc_p)
        row |= _test_numbers("accuracy", standing.accuracy_test, standing.accuracy_p)
        row["verdict"] = standing.verdict
        given = extra.get(standing.name, {})
        rows.append(row | {column: given.get(column) for column in columns})
    return pd.DataFrame(rows)


def headline(comparison: Comparison) -> str:
    """One sentence: the best system, what cannot be told from it, and where the ensemble stands."""
    best, *others = comparison.ranked
    parts = [
        f"Best by AUC: {_with_auc(best)}" if others else f"{_with_auc(best)} by AUC, compared with no other"
    ]
    verdicts = {standing.verdict for standing in others}
    every = "every other is " if len(verdicts) == 1 else ""
    for verdict, words in (
        (INDISTINGUISHABLE, "indistinguishable from it"),
        (UNTESTED, "not tested against it"),
    ):
        if verdict in verdicts:
            names = ", ".join(standing.name for standing in others if standing.verdict == verdict)
            parts.append(f"{every}{words}: {names}")
    if verdicts == {WORSE}:
        parts.append("every other is worse")
    parts += [
        f"the {_with_auc(standing)}, is {standing.verdict}"
        for standing in comparison.standings
        if standing.name == ENSEMBLE
    ]
    return "; ".join(parts) + "."


def format_p(p_value: float) -> str:
    """A p-value, such as "p = 0.21", "p = 0.043" or "p < 0.001"."""
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {p_value:.{2 if p_value >= 0.1 else 3}f}"


def _cells(standing: Standing) -> tuple[str, ...]:
    spread = sorted({f"{auc:.2f}" for auc in standing.auc_spread})
    return (
        standing.name,
        format_estimate(standing.metrics["roc_auc"]),
        "" if standing.name == ENSEMBLE else " to ".join(spread),
        *(format_estimate(standing.metrics[name], METRICS[name].digits) for name in SHOWN),
        *_cells_of_tests(standing),
    )


def _cells_of_tests(standing: Standing) -> tuple[str, str]:
    if standing.verdict == BEST:
        return BEST, ""
    auc = _difference(standing.auc_test, standing.auc_p)
    told = "" if standing.verdict == UNTESTED else f": {standing.verdict}"
    return auc + told, _difference(standing.accuracy_test, standing.accuracy_p)


def _difference(test: PairedTest | None, corrected: float | None) -> str:
    """Such as "lower by 0.031 (-0.008 to 0.070), p = 0.21", as seen from the system that is not the best."""
    if test is None:
        return UNTESTED
    higher = test.difference < 0
    low, high = (-test.high, -test.low) if higher else (test.low, test.high)
    interval = "" if math.isnan(low) else f" ({low:z.3f} to {high:z.3f})"
    p_value = UNTESTED if corrected is None else format_p(corrected)
    return f"{'higher' if higher else 'lower'} by {abs(test.difference):.3f}{interval}, {p_value}"


def _test_numbers(name: str, test: PairedTest | None, corrected: float | None) -> dict[str, float | None]:
    difference, low, high, p_value = (None,) * 4 if test is None else astuple(test)
    return {
        f"{name}_difference": difference,
        f"{name}_difference_low": low,
        f"{name}_difference_high": high,
        f"{name}_p": p_value,
        f"{name}_p_holm": corrected,
    }


def _with_auc(standing: Standing) -> str:
    return f"{standing.name}, {format_estimate(standing.metrics['roc_auc'])}"


def _extra_columns(comparison: Comparison, extra: Extra) -> list[str]:
    unknown = set(extra) - {standing.name for standing in comparison.standings}
    if unknown:
        raise GroundglassError(f"{', '.join(sorted(unknown))}: is not among the systems compared")
    return list(dict.fromkeys(column for columns in extra.values() for column in columns))


def _escaped(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())
