"""GG114: whether the files hold colour, and whether it tells the label."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundglass.audit.check import Check, Result, Severity
from groundglass.audit.material import Material
from groundglass.audit.measure.auc import auc, severity_of
from groundglass.audit.measure.figures import surely_over
from groundglass.audit.measure.most import most
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.summary import format_estimate
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.scan.image import COLOURED, FORMATS

GREY_MODES = ("1", "L", "La", "LA", "F")
"""Pillow's modes without colour; so are those of 16 bits and more, which begin with I."""
SIDE = 256
"""At least so many pixels are looked at along each side, evenly spaced, where there are so many."""
NOTABLE = 0.05
"""Share of coloured slices in a class from which on a note is due, where that class surely has more colour: what
few slices give away moves no AUC far, but a detector can learn it."""


class Colour(Check[Material]):
    """How much of each slice is coloured, and how well that tells the label."""

    code = "GG114"
    title = "Colour"
    severity = "warning"
    needs = ("two classes",)
    remedy = (
        "CT has no colour: arrows, overlays and watermarks have. Take the slices without them, and have both "
        "classes saved in grey by the same program."
    )

    def run(self, material: Material) -> Result:
        """Measure the coloured share of every slice that is not stored in grey."""
        shares = _coloured_shares(material)
        truth, coloured = material.truth, shares > 0
        if not coloured.any():
            return Result(None, f"None of the {len(shares)} slices has coloured pixels.")
        # The class with more colour counts as the one to be told, so that the figure is at least 0.5.
        plain = auc(truth, shares, material.units, material.seed)
        commoner = POSITIVE if (plain.value or 0) >= 0.5 else NEGATIVE
        figure = plain if commoner == POSITIVE else auc(~truth, shares, material.units, material.seed)
        more = coloured[truth if commoner == POSITIVE else ~truth]
        severity = _severity(figure, float(more.mean()))
        return Result(
            severity,
            f"Coloured pixels are found on {coloured[truth].mean():.1%} of {POSITIVE} and "
            f"{coloured[~truth].mean():.1%} of {NEGATIVE} slices. The coloured share of a slice "
            f"tells the label with AUC {format_estimate(figure)}, the more colour the more likely {commoner}.",
            figure,
            "AUC of the coloured share",
            files=tuple(map(str, material.paths[coloured])) if severity else (),
            side_by_side=most(material, shares) if severity else (),
            header=("Class", "Slices with colour", "Most of a slice that is coloured"),
            rows=tuple(
                (label, f"{coloured[of_class].sum()} of {of_class.sum()}", f"{shares[of_class].max():.1%}")
                for label, of_class in ((POSITIVE, truth), (NEGATIVE, ~truth))
            ),
        )


def _severity(figure: Estimate, share: float) -> Severity | None:
    if severity_of(figure) is not None:
        return "warning"
    return "note" if share >= NOTABLE and surely_over(figure, 0.5) else None


def _coloured_shares(material: Material) -> NDArray[np.float64]:
    """Share of coloured pixels of each slice, in [0, 1], shape (slices,)."""
    shares = np.zeros(len(material.paths))
    places = np.flatnonzero(
        [mode not in GREY_MODES and not mode.startswith("I") for mode in material.headers["mode"]]
    )
    with ThreadPoolExecutor() as pool:  # Pillow decodes without holding the interpreter's lock
        shares[places] = list(pool.map(_coloured_share, material.paths[places]))
    return shares


def _coloured_share(path: str) -> float:
    with Image.open(Path(path), formats=FORMATS) as image:
        image.draft(None, (2 * SIDE, 2 * SIDE))
        transparent = "transparency" in image.info or image.mode in ("PA", "RGBA", "RGBa")
        step = max(1, min(image.size) // SIDE)
        pixels = np.asarray(image.convert("RGBA" if transparent else "RGB"))[::step, ::step]
    coloured = np.ptp(pixels[..., :3], axis=-1) > COLOURED
    if transparent:
        coloured &= pixels[..., 3] > 0
    return float(coloured.mean())
