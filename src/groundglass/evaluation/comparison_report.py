"""A comparison as a table, a frame of plain numbers, a sentence, and figures."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from itertools import cycle
from textwrap import fill
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from groundglass.bundle.evaluation import METRICS, format_estimate
from groundglass.errors import GroundglassError
from groundglass.evaluation.bootstrap import Floats, Ranking
from groundglass.evaluation.classes import MACRO_METRICS, evaluate_classes, macro_rows
from groundglass.evaluation.comparison import (
    BEST,
    ENSEMBLE,
    INDISTINGUISHABLE,
    UNTESTED,
    WORSE,
    Comparison,
    System,
    SystemResult,
    ensemble_of,
)
from groundglass.evaluation.figures import (
    BLUE,
    COLOURS,
    GREY,
    SIZE,
    STYLES,
    TEXT,
    VERMILLION,
    blank,
    letters,
    unit_square,
)
from groundglass.evaluation.paired import PairedTest
from groundglass.evaluation.predictions import classes_of, truth_of
from groundglass.labels import POSITIVE

Extra = Mapping[str, Mapping[str, object]]
"""Other facts by system and column, such as parameters and speed."""
NOTHING_ELSE: Extra = MappingProxyType({})
SHOWN = {"accuracy": "Accuracy", "sensitivity": "Sensitivity", "specificity": "Specificity", "f1": "F1"}
"""The metrics other than AUC in the table, with their headings."""
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

    Values have their bootstrap interval in brackets, differences that of the test; p-values are corrected by
    Holm's method. The columns of ``extra`` follow in order of first appearance, blank if a system has none.

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
    """A table in Markdown that ends in a newline; pipes in cells are escaped, newlines become spaces."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(_escaped(cell) for cell in line)} |\n" for line in lines)


CLASSES_HEADER = ("System", "Training", *(metric.title for metric in MACRO_METRICS.values()))


def classes_table(systems: Iterable[System]) -> list[tuple[str, ...]]:
    """Rows under ``CLASSES_HEADER``: the figures of all classes together, of systems that know several.

    Each training has a row, with bootstrap intervals. Trainings that do not know every label are left out.
    """
    return [
        (system.name, str(number), *(value for _, value in macro_rows(evaluate_classes(member))))
        for system in systems
        for number, member in enumerate(system.members, 1)
        if (known := set(classes_of(member))) and set(member["label"]) <= known
    ]


def comparison_frame(comparison: Comparison, extra: Extra = NOTHING_ELSE) -> pd.DataFrame:
    """The standings as plain numbers, a row per system, the ensemble last.

    Returns
    -------
    ``system``, ``members``; every metric as ``NAME``, ``NAME_low``, ``NAME_high``; ``roc_auc_least`` and
    ``roc_auc_greatest`` among the members; for ``auc`` and ``accuracy`` the best's minus this one's as
    ``NAME_difference``, ``NAME_difference_low``, ``NAME_difference_high``, with ``NAME_p`` and, after Holm's
    correction, ``NAME_p_holm``; ``verdict``; the columns of ``extra``. Unknown values are missing.

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
    """One sentence: the best system, those indistinguishable from it, and how the ensemble compares."""
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


def _cells(standing: SystemResult) -> tuple[str, ...]:
    spread = sorted({f"{auc:.2f}" for auc in standing.auc_spread})
    return (
        standing.name,
        format_estimate(standing.metrics["roc_auc"]),
        "" if standing.name == ENSEMBLE else " to ".join(spread),
        *(format_estimate(standing.metrics[name], METRICS[name].digits) for name in SHOWN),
        *_cells_of_tests(standing),
    )


def _cells_of_tests(standing: SystemResult) -> tuple[str, str]:
    if standing.verdict == BEST:
        return BEST, ""
    auc = _difference(standing.auc_test, standing.auc_p)
    told = "" if standing.verdict == UNTESTED else f": {standing.verdict}"
    return auc + told, _difference(standing.accuracy_test, standing.accuracy_p)


def _difference(test: PairedTest | None, corrected: float | None) -> str:
    """Text such as "lower by 0.031 (-0.008 to 0.070), p = 0.21", relative to the best system."""
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


def _with_auc(standing: SystemResult) -> str:
    return f"{standing.name}, {format_estimate(standing.metrics['roc_auc'])}"


def _extra_columns(comparison: Comparison, extra: Extra) -> list[str]:
    unknown = set(extra) - {standing.name for standing in comparison.standings}
    if unknown:
        raise GroundglassError(f"{', '.join(sorted(unknown))}: not among the systems compared")
    return list(dict.fromkeys(column for columns in extra.values() for column in columns))


def _escaped(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())


GRID = np.linspace(0, 1, 501)
"""False positive rates at which the members' ROC curves are averaged."""
LINE = 0.22
"""Height of a line of a legend, in inches."""
WRAP = 24
"""Names longer than this are wrapped."""


def roc_compared(systems: Sequence[System], comparison: Comparison) -> Figure:
    """ROC curves of all systems and of their ensemble, with their AUC.

    A system's curve is the vertical average of its members': their mean sensitivity at each false positive
    rate (Fawcett 2006, doi 10.1016/j.patrec.2005.10.010).

    Parameters
    ----------
    systems, comparison
        The systems, and the comparison of them.

    Raises
    ------
    GroundglassError
        As :func:`~groundglass.evaluation.comparison.compare`.
    """
    members = {system.name: system.members for system in systems} | {ENSEMBLE: (ensemble_of(systems),)}
    height = SIZE[1] + 0.4 + LINE * (len(comparison.standings) + 1)
    figure = blank(f"ROC curves: {_counted(comparison)}", height=height)
    axes = unit_square(figure)
    axes.set_box_aspect(0.8)
    for standing, colour, style in zip(comparison.standings, cycle(COLOURS), cycle(STYLES), strict=False):
        curve = np.mean([_sensitivities(member) for member in members[standing.name]], axis=0)
        together = standing.name == ENSEMBLE
        axes.plot(
            np.append(0, GRID),
            np.append(0, curve),
            "-" if together else style,
            color="black" if together else colour,
            linewidth=3 if together else 1.8,
            label=f"{standing.name}: {format_estimate(standing.metrics['roc_auc'])}",
        )
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, label="chance: 0.50")
    axes.set(xlabel=f"1 - specificity (controls called {POSITIVE})", ylabel=f"sensitivity ({POSITIVE} found)")
    figure.legend(loc="outside lower left", fontsize=TEXT, frameon=False, title="area under the curve (AUC)")
    return figure


def _sensitivities(predictions: pd.DataFrame) -> Floats:
    """Sensitivity at each of GRID."""
    truth = truth_of(predictions)
    tp, fp = Ranking(truth, predictions["probability"].to_numpy()).counts(np.ones((1, len(truth))))
    return np.interp(GRID, np.append(0, fp[0] / fp[0, -1]), np.append(0, tp[0] / tp[0, -1]))


def agreement_figure(comparison: Comparison) -> Figure:
    """Table of the share of slices with the same verdict, systems by systems; on the diagonal, between
    trainings."""
    shares = comparison.agreement.to_numpy(copy=True)
    once = [row for row, standing in enumerate(comparison.ranked) if standing.members == 1]
    # A single training can agree only with itself.
    shares[once, once] = np.nan
    least = np.nanmin(shares, initial=0.5)
    figure = blank(f"Same verdict: {_counted(comparison)}", height=max(SIZE[1], 2 + 0.5 * len(shares)))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=least, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        told = "-" if np.isnan(share) else f"{share:.0%}"
        colour = "white" if share - least > 0.65 * (1 - least) else "black"
        axes.text(column, row, told, ha="center", va="center", fontsize=TEXT, color=colour)
    places = range(len(shares))
    axes.set_xticks(places, [f"({place + 1})" for place in places])
    axes.set_yticks(places, [f"{_wrapped(comparison.ranked[place])} ({place + 1})" for place in places])
    axes.set_xlabel("share of slices with the same verdict;\non the diagonal, of two trainings of one system")
    letters(axes)
    return figure


def intervals_figure(comparison: Comparison) -> Figure:
    """AUC of each system with its interval, members as dots; the best on top, the ensemble at the bottom."""
    standings = comparison.standings
    figure = blank(f"AUC: {_counted(comparison)}", height=2.2 + 0.45 * len(standings))
    axes = figure.subplots()
    labels = {"mean": f"mean, {comparison.confidence:.0%} interval", "member": "one member"}
    for row, standing in enumerate(standings):
        estimate = standing.metrics["roc_auc"]
        ends = np.array([estimate.low, estimate.value, estimate.high], dtype=float)
        (mean,) = axes.plot(ends, [row] * 3, "s-", linewidth=2.5, markersize=8, markevery=[1])
        mean.set(color="black" if standing.name == ENSEMBLE else BLUE, label=labels.pop("mean", None))
        if standing.members > 1:
            (dots,) = axes.plot(standing.member_aucs, [row + 0.25] * standing.members, "o", markersize=4)
            dots.set(color=VERMILLION, label=labels.pop("member", None))
    axes.axvline(0.5, color=GREY, linestyle=":", label="chance, 0.5")
    axes.set_yticks(range(len(standings)), [_wrapped(standing) for standing in standings])
    axes.set_ylim(len(standings) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("area under the ROC curve (AUC)")
    letters(axes)
    figure.legend(loc="outside lower center", ncols=2, fontsize=TEXT, frameon=False)
    return figure


def home_and_elsewhere(pages: Mapping[str, pd.DataFrame]) -> Figure:
    """AUC of each system on the test set of its own dataset and on external datasets, with intervals.

    Parameters
    ----------
    pages
        By the name of the dataset that the systems were trained on: the rows of :func:`comparison_frame`, with
        the columns ``dataset`` and ``part``, which is ``all`` on an external dataset, as in
        ``comparison.csv``. Each gets a panel, its systems in their order on the training dataset.
    """
    own = {name: page[page["part"] != "all"] for name, page in pages.items()}
    counts = [len(rows) for rows in own.values()]
    figure = blank(
        "AUC on the training dataset and on external ones", height=2.0 + 0.7 * len(pages) + 0.36 * sum(counts)
    )
    panels = figure.subplots(len(pages), squeeze=False, sharex=True, height_ratios=counts)[:, 0]
    for axes, (name, page) in zip(panels, pages.items(), strict=True):
        others = page[page["part"] == "all"].groupby("dataset", sort=False)
        elsewhere = {str(other): rows for other, rows in others}
        _bars(axes, own[name], elsewhere)
        axes.set_title(f"trained on {name}; external: {', '.join(elsewhere)}", fontsize=TEXT, loc="left")
    panels[-1].set_xlabel("area under the ROC curve (AUC); dotted: chance")
    legends = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in panels]
    shown = {label: handle for legend in legends for handle, label in legend}
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=2, fontsize=TEXT, frameon=False)
    return figure


def _bars(axes: Axes, own: pd.DataFrame, elsewhere: Mapping[str, pd.DataFrame]) -> None:
    """Draw the AUC of each system with its interval, of each dataset in its own colour."""
    places = {system: row for row, system in enumerate(own["system"])}
    labels = ["elsewhere"] if len(elsewhere) == 1 else list(elsewhere)
    looks = zip(("test set of its own dataset", *labels), (own, *elsewhere.values()), strict=True)
    for number, ((label, rows), colour) in enumerate(zip(looks, cycle(COLOURS), strict=False)):
        value, low, high = rows[["roc_auc", "roc_auc_low", "roc_auc_high"]].to_numpy(dtype=float).T
        height = rows["system"].map(places) + 0.13 * (2 * number - len(elsewhere))
        ends = [value - low, high - value]
        shape = "o" if number else "s"
        axes.errorbar(value, height, xerr=ends, fmt=shape, color=colour, linewidth=1.8, label=label)
    axes.axvline(0.5, color=GREY, linestyle=":")
    axes.set_yticks(range(len(places)), [fill(system, WRAP + 4) for system in places])
    axes.set_ylim(len(places) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    letters(axes)


def _counted(comparison: Comparison) -> str:
    return f"{comparison.positives} {POSITIVE} of {comparison.count} {comparison.unit}s"


def _wrapped(standing: SystemResult) -> str:
    return fill(standing.name, WRAP)
