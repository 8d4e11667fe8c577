"""Figures of evaluations, and what all figures share: size, fonts, colours, and conversion to PNG.

Figures are made with matplotlib's objects and never with pyplot, so nothing global is touched. The colours
are those of Okabe & Ito 2008, which people with any kind of colour blindness can distinguish.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import cycle
from textwrap import fill
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from groundglass.bundle.evaluation import METRICS, Evaluation, format_estimate
from groundglass.errors import GroundglassError
from groundglass.evaluation.bootstrap import Floats, Ranking, bootstrap_weights
from groundglass.evaluation.calibration import reliability_curve
from groundglass.evaluation.classes import ClassesEvaluation, labelled_masks
from groundglass.evaluation.metrics import resampling_groups
from groundglass.evaluation.predictions import VERDICTS, class_column, truth_of, unit_codes
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE, UNCERTAIN

SIZE = (6.0, 5.0)
"""Width and height in inches."""
TEXT, TITLE = 10, 12
"""Font sizes in points."""
BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
COLOURS = (BLUE, VERMILLION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")
Place = Literal["best", "lower left", "lower right", "upper left"]


def to_png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file on white, ``dpi`` pixels per inch."""
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def to_svg(figure: Figure) -> bytes:
    """The figure as an SVG file on white, with its letters as outlines; the same figure gives the same bytes."""
    buffer = BytesIO()
    with rc_context({"svg.hashsalt": "groundglass"}):
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return buffer.getvalue()


def blank(title: str, height: float = SIZE[1]) -> Figure:
    """An empty figure under a title, ``height`` inches high."""
    figure = Figure(figsize=(SIZE[0], height), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=TITLE)
    return figure


def unit_square(figure: Figure) -> Axes:
    """Axes over [0, 1] by [0, 1] with a grid, for curves of shares."""
    axes = figure.subplots()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.grid(alpha=0.3)
    letters(axes)
    return axes


def letters(axes: Axes) -> None:
    """Set the font sizes of axes."""
    axes.tick_params(labelsize=TEXT)
    axes.xaxis.label.set_fontsize(TEXT + 1)
    axes.yaxis.label.set_fontsize(TEXT + 1)


def legend(axes: Axes, place: Place) -> None:
    """Draw the legend of axes."""
    axes.legend(loc=place, fontsize=TEXT)


def counts_table(axes: Axes, counts: NDArray[np.int_], rows: Sequence[str], columns: Sequence[str]) -> None:
    """Draw counts as a table of shaded cells, each with its share of its row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{count}\n{share:.0%}",
            ha="center",
            va="center",
            fontsize=TITLE + 2,
            color="white" if share > 0.5 else "black",
        )
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    letters(axes)


GRID = np.linspace(0, 1, 101)
"""False positive rates at which the band of the ROC curve is computed."""
LOG_COLUMNS = ("epoch", "train_loss", "val_loss", "lr")


def roc(predictions: pd.DataFrame, evaluation: Evaluation, threshold: float) -> Figure:
    """ROC curve with its pointwise bootstrap band and the operating point.

    The curve, its area and the point use all slices, answered or not. Sensitivity and specificity in the
    tables use only the answered slices, so they can differ from the point.

    Parameters
    ----------
    predictions
        As :func:`~groundglass.evaluation.predictions.read_predictions` gives them.
    evaluation
        The evaluation of these predictions; its numbers are shown, and its bootstrap is repeated for the
        band.
    threshold
        Probability from which a slice is called positive.

    Raises
    ------
    GroundglassError
        If the predictions are of one class only.
    """
    truth, probability = _both_classes(predictions)
    ranking = Ranking(truth, probability)
    figure, axes = _square("ROC curve", evaluation)
    if evaluation.groups > 1:
        units = unit_codes(resampling_groups(predictions))
        curves = [
            _sensitivity_on_grid(ranking, weights)
            for weights in bootstrap_weights(units, evaluation.resamples, evaluation.seed)
        ]
        tail = (1 - evaluation.confidence) / 2
        low, high = np.quantile(np.concatenate(curves), [tail, 1 - tail], axis=0)
        label = f"{evaluation.confidence:.0%} band"
        axes.fill_between(GRID, low, high, color=BLUE, alpha=0.2, linewidth=0, label=label)
    tp, fp = ranking.counts(np.ones((1, len(truth))))
    area = format_estimate(evaluation.metrics["roc_auc"])
    axes.plot(
        np.append(0, fp[0] / fp[0, -1]), np.append(0, tp[0] / tp[0, -1]), color=BLUE, label=f"AUC {area}"
    )
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    called = probability >= threshold
    _point_of_threshold(
        axes, float(called[~truth].mean()), float(called[truth].mean()), threshold, evaluation
    )
    axes.set(xlabel=f"1 - specificity (controls called {POSITIVE})", ylabel=f"sensitivity ({POSITIVE} found)")
    legend(axes, "lower right")
    return figure


def _sensitivity_on_grid(ranking: Ranking, weights: Floats) -> Floats:
    """Sensitivity at each of GRID, (weightings with both classes, grid)."""
    tp, fp = ranking.counts(weights)
    both = (tp[:, -1] > 0) & (fp[:, -1] > 0)
    tpr, fpr = tp[both] / tp[both, -1:], fp[both] / fp[both, -1:]
    rows = [np.interp(GRID, np.append(0, x), np.append(0, y)) for x, y in zip(fpr, tpr, strict=True)]
    return np.reshape(rows, (-1, len(GRID)))


def precision_recall(predictions: pd.DataFrame, evaluation: Evaluation, threshold: float) -> Figure:
    """Precision-recall curve with the operating point; parameters and errors as for :func:`roc`."""
    truth, probability = _both_classes(predictions)
    tp, fp = (counts[0] for counts in Ranking(truth, probability).counts(np.ones((1, len(truth)))))
    precision = tp / (tp + fp)
    figure, axes = _square("Precision-recall curve", evaluation)
    # Steps, not slopes: the area under them is the average precision.
    axes.step(
        np.append(0, tp / tp[-1]),
        np.append(precision[0], precision),
        where="pre",
        color=BLUE,
        label=f"PR AUC {format_estimate(evaluation.metrics['pr_auc'])}",
    )
    share = float(truth.mean())
    axes.axhline(share, color=GREY, linestyle=":", label=f"chance: share of {POSITIVE}, {share:.2f}")
    called = probability >= threshold
    if called.any():
        recall, ppv = float(called[truth].mean()), float(truth[called].mean())
        _point_of_threshold(axes, recall, ppv, threshold, evaluation)
    axes.set(
        xlabel=f"recall (sensitivity, {POSITIVE} found)",
        ylabel=f"precision (PPV, {POSITIVE} verdicts that are right)",
    )
    legend(axes, "lower left")
    return figure


def calibration(predictions: pd.DataFrame, evaluation: Evaluation) -> Figure:
    """Observed share of positives against predicted probability in ten bins, above the bins' counts."""
    curve = reliability_curve(truth_of(predictions), predictions["probability"])
    figure = _figure("Calibration", evaluation)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    filled = curve[curve["count"] > 0]
    numbers = ", ".join(
        f"{METRICS[name].title} {format_estimate(evaluation.metrics[name], 3)}" for name in ("ece", "brier")
    )
    upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
    upper.plot(filled["mean_probability"], filled["share_positive"], "o-", color=BLUE, label="observed")
    upper.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel=f"share of {POSITIVE}")
    upper.set_title(numbers, fontsize=TEXT)
    legend(upper, "upper left")
    lower.bar(
        curve["low"], curve["count"], width=curve["high"] - curve["low"], align="edge", color=BLUE, ec="white"
    )
    lower.set(xlabel=f"predicted probability of {POSITIVE}", ylabel=f"{evaluation.unit}s")
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    letters(upper)
    letters(lower)
    return figure


def confusion_matrix(predictions: pd.DataFrame, evaluation: Evaluation) -> Figure:
    """Counts of every verdict by label, with their share of the label."""
    truth = truth_of(predictions)
    given = [
        verdict
        for verdict in VERDICTS
        if verdict in (POSITIVE, NEGATIVE) or (predictions["verdict"] == verdict).any()
    ]
    counts = np.array(
        [[int((predictions["verdict"][of] == name).sum()) for name in given] for of in (truth, ~truth)]
    )
    figure = _figure("Confusion matrix", evaluation)
    axes = figure.subplots()
    names = [name.replace(" a chest", " a\nchest") for name in given]
    counts_table(axes, counts, [POSITIVE, NEGATIVE], names)
    axes.set(xlabel=f"verdict (% of the {evaluation.unit}s of each label)", ylabel="label")
    return figure


def scores(predictions: pd.DataFrame, evaluation: Evaluation, threshold: float | None = None) -> Figure:
    """Histogram of the calibrated probability by label, with the threshold if it is given."""
    truth = truth_of(predictions)
    figure = _figure("Probability by label", evaluation)
    axes = figure.subplots()
    # The hatching is darker than the bar below it, because in SVG both have the same opacity.
    bars = ((NEGATIVE, ~truth, BLUE, BLUE, ""), (POSITIVE, truth, VERMILLION, "#5c2800", "//"))
    for name, of, colour, edge, hatch in bars:
        axes.hist(
            predictions["probability"][of],
            bins=20,
            range=(0, 1),
            histtype="stepfilled",
            facecolor=(colour, 0.35),
            edgecolor=edge,
            hatch=hatch,
            label=f"{name} ({of.sum()})",
        )
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.2f}")
    axes.set(xlim=(0, 1), xlabel=f"predicted probability of {POSITIVE}", ylabel=f"{evaluation.unit}s")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    letters(axes)
    legend(axes, "best")
    return figure


def curves(log: pd.DataFrame, best_by: str = "val_auc") -> Figure:
    """Loss, validation metrics and learning rate by epoch, the best epoch marked.

    Parameters
    ----------
    log
        A run's log.csv: ``epoch, train_loss, val_loss, lr`` and further metrics as ``val_...``. Several rows
        of one epoch are joined, since a logger may write training and validation separately.
    best_by
        The column by which the best epoch was chosen; with any other word none is marked.

    Raises
    ------
    GroundglassError
        If a column is missing.
    """
    epochs = _epochs(log, "log.csv")
    figure = blank("Training", height=6.0)
    panels = figure.subplots(3, sharex=True, height_ratios=(3, 3, 1))
    metrics = tuple(name for name in epochs.columns if name.startswith("val_") and name != "val_loss")
    shown = (("train_loss", "val_loss"), metrics, ("lr",))
    for axes, columns, label in zip(panels, shown, ("loss", "validation", "learning\nrate"), strict=True):
        for column, colour, style in zip(columns, COLOURS, STYLES, strict=False):
            name = column.replace("train_", "training ").replace("val_", "validation ").replace("auc", "AUC")
            name = name.replace("_", " ").replace("dice", "Dice")
            axes.plot(epochs.index, epochs[column], style, marker=".", color=colour, label=name)
        axes.set_ylabel(label)
        letters(axes)
    best = _best_epoch(epochs, best_by)
    if best is not None:
        for axes in panels:
            axes.axvline(best, color=GREY, linestyle=":", label=f"best epoch: {best}")
    for axes in panels[:2]:
        legend(axes, "best")
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[-1].yaxis.set_major_locator(MaxNLocator(2))
    return figure


def curves_compared(logs: Mapping[str, pd.DataFrame], best_by: Mapping[str, str]) -> Figure:
    """Training loss, validation loss and accuracy of several models by epoch, each best epoch marked with a dot.

    Parameters
    ----------
    logs
        Logs by the model's name, in the form that :func:`curves` takes.
    best_by
        The column by which each model's best epoch was chosen, by the model's name.

    Raises
    ------
    GroundglassError
        If there is no log or a column is missing in one.
    """
    if not logs:
        raise GroundglassError("there is no training log to compare")
    figure = blank("Models compared", height=8.0)
    panels = figure.subplots(3, sharex=True)
    for (name, log), colour, style in zip(logs.items(), cycle(COLOURS), cycle(STYLES), strict=False):
        epochs = _epochs(log, name)
        best = _best_epoch(epochs, best_by[name])
        for axes, column in zip(panels, ("train_loss", "val_loss", "val_accuracy"), strict=True):
            (line,) = axes.plot(epochs.index, epochs[column], style, color=colour)
            if best is not None:
                axes.plot(best, epochs[column][best], "o", color=colour)
        line.set_label(name)
    for axes, label in zip(panels, ("training loss", "validation loss", "validation accuracy"), strict=True):
        axes.set_ylabel(label)
        letters(axes)
    panels[-1].set_xlabel("epoch (dot: the epoch kept)")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=2, fontsize=TEXT, frameon=False)
    return figure


def _epochs(log: pd.DataFrame, name: str) -> pd.DataFrame:
    missing = [column for column in LOG_COLUMNS if column not in log]
    if missing:
        raise GroundglassError(f"{name}: the training log has no column {', '.join(missing)}")
    return log.groupby("epoch").last()


def _best_epoch(epochs: pd.DataFrame, best_by: str) -> int | None:
    if best_by not in epochs:
        return None
    known = epochs[best_by].dropna()
    if known.empty:
        return None
    row = int(known.argmin() if best_by == "val_loss" else known.argmax())
    return int(known.index[row])


def _both_classes(predictions: pd.DataFrame) -> tuple[NDArray[np.bool_], Floats]:
    truth = truth_of(predictions)
    if truth.all() or not truth.any():
        raise GroundglassError("the predictions are of one class only: ROC and precision-recall need both")
    return truth, predictions["probability"].to_numpy()


def _figure(title: str, evaluation: Evaluation) -> Figure:
    counted = f"{evaluation.positives} {POSITIVE} of {evaluation.count} {evaluation.unit}s"
    return blank(f"{title}: {counted}")


def _square(title: str, evaluation: Evaluation) -> tuple[Figure, Axes]:
    figure = _figure(title, evaluation)
    return figure, unit_square(figure)


def _point_of_threshold(axes: Axes, x: float, y: float, threshold: float, evaluation: Evaluation) -> None:
    label = f"all {evaluation.unit}s at threshold {threshold:.2f} ({x:.2f}, {y:.2f})"
    axes.plot(x, y, "o", color=VERMILLION, markersize=9, label=label)


NAME_WIDTH, TURNED_WIDTH = 12, 20
"""Characters per line of names at the confusion matrix, and of names turned by 90 degrees."""
WIDTH_OF_ALL = 56
"""Total characters of names that fit side by side below it."""


def class_roc(predictions: pd.DataFrame, evaluation: ClassesEvaluation) -> Figure:
    """One-vs-rest ROC curve, with its AUC, of every class that has slices, if there are at least two.

    Parameters
    ----------
    predictions
        As :func:`~groundglass.evaluation.predictions.read_predictions` gives them, with columns of classes.
    evaluation
        The evaluation of these predictions.

    Raises
    ------
    GroundglassError
        If the predictions are of one class only.
    """
    drawn = {
        name: of
        for name, of in labelled_masks(predictions, evaluation.classes).items()
        if of.any() and not of.all()
    }
    if not drawn:
        raise GroundglassError("the predictions are of one class only: ROC curves need at least two")
    figure = blank(f"ROC curves, each class against the rest: {evaluation.count} slices")
    axes = unit_square(figure)
    once = np.ones((1, len(predictions)))
    for (name, truth), colour, style in zip(drawn.items(), cycle(COLOURS), cycle(STYLES), strict=False):
        (tp,), (fp,) = Ranking(truth, predictions[class_column(name)].to_numpy()).counts(once)
        area = format_estimate(evaluation.per_class[name]["roc_auc"])
        x, y = np.append(0, fp / fp[-1]), np.append(0, tp / tp[-1])
        axes.plot(x, y, style, color=colour, label=f"{name}\nAUC {area}")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="chance")
    axes.set(
        xlabel="1 - specificity (other classes called this class)",
        ylabel="sensitivity (slices of the class found)",
    )
    legend(axes, "lower right")
    return figure


def class_confusion(predictions: pd.DataFrame, evaluation: ClassesEvaluation) -> Figure:
    """Counts of every answer by label, with their share of the label.

    A column is a class, or a reason for giving no answer; a row is a class that has slices. Parameters and
    errors as for :func:`class_roc`, except that one class is enough.
    """
    silent = [name for name in (UNCERTAIN, NOT_A_CHEST_CT) if (predictions["verdict"] == name).any()]
    by_label = {
        name: [*answered, *((predictions["verdict"][of] == verdict).sum() for verdict in silent)]
        for (name, of), answered in zip(
            labelled_masks(predictions, evaluation.classes).items(), evaluation.confusion, strict=True
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
