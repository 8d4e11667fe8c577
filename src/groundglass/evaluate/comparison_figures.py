"""Figures of a comparison of systems, each a matplotlib Figure, legible at the width of a phone."""

from collections.abc import Sequence
from itertools import cycle
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from groundglass.evaluate.comparison import ENSEMBLE, Comparison, Standing, System, ensemble_of
from groundglass.evaluate.predictions import check_predictions, truth_of
from groundglass.evaluate.style import (
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
from groundglass.evaluate.summary import format_estimate
from groundglass.evaluate.weighted import Floats, Ranking
from groundglass.labels import POSITIVE

GRID = np.linspace(0, 1, 501)
"""Shares of false positives at which the members' ROC curves are averaged."""
LINE = 0.22
"""Inches that a line of a legend needs."""
WRAP = 24
"""Letters of a name before it is broken."""


def roc_compared(systems: Sequence[System], comparison: Comparison) -> Figure:
    """ROC curves of all systems and of their ensemble, with their AUC.

    A system's curve is the vertical average of its members': their mean sensitivity at each share of false
    positives (Fawcett 2006, doi 10.1016/j.patrec.2005.10.010).

    Parameters
    ----------
    systems, comparison
        The comparison must be of these systems.

    Raises
    ------
    GroundglassError
        As :func:`~groundglass.evaluate.comparison.compare`.
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
    axes.set(xlabel=f"1 - specificity (others called {POSITIVE})", ylabel=f"sensitivity ({POSITIVE} found)")
    figure.legend(loc="outside lower left", fontsize=TEXT, frameon=False, title="area under the curve (AUC)")
    return figure


def _sensitivities(predictions: pd.DataFrame) -> Floats:
    """Sensitivity at each of GRID."""
    frame = check_predictions(predictions)
    truth = truth_of(frame)
    tp, fp = Ranking(truth, frame["probability"].to_numpy()).counts(np.ones((1, len(truth))))
    return np.interp(GRID, np.append(0, fp[0] / fp[0, -1]), np.append(0, tp[0] / tp[0, -1]))


def agreement_figure(comparison: Comparison) -> Figure:
    """Table of the share of slices with the same verdict, systems by systems; on the diagonal, of two trainings."""
    shares = comparison.agreement.to_numpy(copy=True)
    once = [row for row, standing in enumerate(comparison.ranked) if standing.members == 1]
    # A single training has nothing but itself to agree with.
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
    """AUC of each system with its interval, each member's as a dot; the best on top, the ensemble at the bottom."""
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


def _counted(comparison: Comparison) -> str:
    return f"{comparison.positives} {POSITIVE} of {comparison.count} slices"


def _wrapped(standing: Standing) -> str:
    return fill(standing.name, WRAP)
