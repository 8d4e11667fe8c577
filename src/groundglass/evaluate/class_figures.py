"""Figures of an evaluation of several classes, each a matplotlib Figure, legible at the width of a phone."""

from itertools import cycle
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from groundglass.errors import GroundglassError
from groundglass.evaluate.classes import ClassesEvaluation, check_classes, labelled_masks
from groundglass.evaluate.predictions import class_column
from groundglass.evaluate.style import COLOURS, GREY, SIZE, STYLES, blank, counts_table, legend, unit_square
from groundglass.evaluate.summary import format_estimate
from groundglass.evaluate.weighted import Ranking
from groundglass.labels import NOT_A_CHEST_CT, UNCERTAIN

NAME_WIDTH, TURNED_WIDTH = 12, 20
"""Letters of a name in one line at the confusion matrix, and where it is turned by 90 degrees."""
WIDTH_OF_ALL = 56
"""Letters of all names together that fit side by side under it."""


def class_roc(predictions: pd.DataFrame, evaluation: ClassesEvaluation) -> Figure:
    """One-vs-rest ROC curve of every class that has slices and is not the only one, with its AUC.

    Parameters
    ----------
    predictions
        As :func:`~groundglass.evaluate.predictions.read_predictions` gives them, with columns of classes.
    evaluation
        Of these predictions; names the numbers.

    Raises
    ------
    GroundglassError
        If the predictions are of one class only.
    """
    frame = check_classes(predictions)
    drawn = {
        name: of
        for name, of in labelled_masks(frame, evaluation.classes).items()
        if of.any() and not of.all()
    }
    if not drawn:
        raise GroundglassError("the predictions are of one class only: ROC curves need at least two")
    figure = blank(f"ROC curves, each class against the rest: {evaluation.count} slices")
    axes = unit_square(figure)
    once = np.ones((1, len(frame)))
    for (name, truth), colour, style in zip(drawn.items(), cycle(COLOURS), cycle(STYLES), strict=False):
        (tp,), (fp,) = Ranking(truth, frame[class_column(name)].to_numpy()).counts(once)
        area = format_estimate(evaluation.per_class[name]["roc_auc"])
        x, y = np.append(0, fp / fp[-1]), np.append(0, tp / tp[-1])
        axes.plot(x, y, style, color=colour, label=f"{name}\nAUC {area}")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="chance")
    axes.set(xlabel="1 - specificity (others called so)", ylabel="sensitivity (slices of the class found)")
    legend(axes, "lower right")
    return figure


def class_confusion(predictions: pd.DataFrame, evaluation: ClassesEvaluation) -> Figure:
    """Counts of every answer by label, with their share of the label.

    A column is a class, or why there is no answer where that happens; a row is a class that has slices.
    Parameters and errors as for :func:`class_roc`, one class being enough.
    """
    frame = check_classes(predictions)
    silent = [name for name in (UNCERTAIN, NOT_A_CHEST_CT) if (frame["verdict"] == name).any()]
    by_label = {
        name: [*answered, *((frame["verdict"][of] == verdict).sum() for verdict in silent)]
        for (name, of), answered in zip(
            labelled_masks(frame, evaluation.classes).items(), evaluation.confusion, strict=True
        )
        if of.any()
    }
    columns = [*evaluation.classes, *silent]
    longest = max(len(line) for name in columns for line in _wrapped(name).splitlines())
    turned = longest * len(columns) > WIDTH_OF_ALL
    figure = blank(f"Answers by label: {evaluation.count} slices", height=6.0 if turned else SIZE[1])
    axes = figure.subplots()
    counts_table(
        axes,
        np.array(list(by_label.values())),
        [_wrapped(name) for name in by_label],
        [_wrapped(name, TURNED_WIDTH if turned else NAME_WIDTH) for name in columns],
    )
    axes.tick_params(axis="x", rotation=90 if turned else 0)
    axes.set(xlabel="answer (% of the slices of each label)", ylabel="label")
    return figure


def _wrapped(name: str, width: int = NAME_WIDTH) -> str:
    return fill(name, width, break_long_words=False)
