"""What all figures share: size, letters, colours, and the way to a PNG file.

Figures are made with matplotlib's objects and never with pyplot, so nothing global is touched. The colours are of
Okabe & Ito 2008, which people with any kind of colour blindness tell apart.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

SIZE = (6.0, 5.0)
"""Width and height in inches."""
TEXT, TITLE = 10, 12
"""Sizes of letters, in points."""
BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
COLOURS = (BLUE, VERMILLION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")
Place = Literal["best", "lower left", "lower right", "upper left"]


def to_png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file, ``dpi`` pixels an inch, on white."""
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
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
    """Set the sizes of the letters of axes."""
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
