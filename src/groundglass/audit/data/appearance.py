"""GG113: whether letters, arrows, rulers and frames are burnt into the slices, and whether they tell the label."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from joblib import parallel_config  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image

from groundglass.audit.check import NOTHING, Check, NotApplicable, Result, Severity
from groundglass.audit.marks import Marks
from groundglass.audit.material import Material
from groundglass.audit.measures import auc, severity_of, surely_over
from groundglass.audit.telling import Told, measure_name, most, told
from groundglass.evaluate.evaluation import Estimate, format_estimate
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.scan.image import COLOURED, FORMATS

KINDS = {"text": "letters", "arrows": "arrows", "rulers": "rulers", "bars": "frames and bars"}
"""The counts of :class:`Marks`, and what they are called."""
COMMON = 0.05
"""Share of slices with marks from which a note is due, whatever their label; marks are seen by mistake on about 2%
of slices of one hospital without any, and on 8% of slices cut from papers."""
TREES = 100
"""Grown for each fold: there are five features."""


class BurntIn(Check[Material]):
    """How often each class carries marks, and how well their numbers tell the label."""

    code = "GG113"
    title = "Burnt-in text, arrows and rulers"
    severity = "warning"
    remedy = (
        "Take slices without marks, or paint or crop marks away in both classes alike; look for names and dates "
        "among the letters before the slices are passed on."
    )

    def run(self, material: Material) -> Result:
        """Count marks by class, and tell the label from their numbers."""
        counts = _counts(material.looks.marks)
        marked = counts.sum(axis=1) > 0
        if not marked.any():
            return Result(None, f"No burnt-in marks were seen on any of the {len(marked)} slices.")
        tale = _told(material, counts)
        severity = _severity(tale, float(marked.mean()))
        return Result(
            severity,
            _message(material.truth, marked, tale),
            tale.crossed if tale else NOTHING,
            measure_name(tale) if tale else "",
            files=tuple(map(str, material.paths[marked])) if severity else (),
            side_by_side=most(material, counts.sum(axis=1)) if severity else (),
            header=("Marks", f"{POSITIVE} slices", f"{NEGATIVE} slices", "AUC of their number"),
            rows=_rows(material, counts),
        )


def _counts(marks: tuple[Marks, ...]) -> NDArray[np.intp]:
    """Marks of each kind, shape (slices, kinds)."""
    return np.array([[getattr(one, kind) for kind in KINDS] for one in marks], dtype=np.intp)


def _told(material: Material, counts: NDArray[np.intp]) -> Told | None:
    """None where there are not two classes of two groups each: marks are told then all the same."""
    if material.truth.all() or not material.truth.any():
        return None
    covered = [one.share for one in material.looks.marks]
    features = np.column_stack([counts, covered]).astype(np.float64)
    try:
        with parallel_config(backend="sequential"):  # so few features are faster without threads
            return told(features, material.truth, material.units, material.parts, material.seed, TREES)
    except NotApplicable:
        return None


def _severity(tale: Told | None, share: float) -> Severity | None:
    if tale is not None and severity_of(tale.crossed) is not None:
        return "warning"
    return "note" if share > COMMON else None


def _message(truth: NDArray[np.bool_], marked: NDArray[np.bool_], tale: Told | None) -> str:
    seen = (
        f"Marks that look burnt in were seen on {marked.sum()} of {len(marked)} slices ({marked.mean():.0%})"
    )
    personal = "Letters may hold names and dates."
    if tale is None:
        return f"{seen}. {personal}"
    verdict = "is told" if severity_of(tale.crossed) else "is not surely told"
    by_class = f"{_share(marked[truth])} of {POSITIVE}, {_share(marked[~truth])} of {NEGATIVE}"
    return (
        f"{seen}: {by_class}. From how many there are and what they cover the label {verdict}: AUC "
        f"{format_estimate(tale.crossed)}. {personal}"
    )


def _share(marked: NDArray[np.bool_]) -> str:
    return f"{marked.mean():.1%}" if marked.size else "no slices"


def _rows(material: Material, counts: NDArray[np.intp]) -> tuple[tuple[str, str, str, str], ...]:
    columns = {**dict(zip(KINDS.values(), counts.T, strict=True)), "any of them": counts.sum(axis=1)}
    truth = material.truth
    return tuple(
        (
            name,
            _share(number[truth] > 0),
            _share(number[~truth] > 0),
            format_estimate(auc(truth, number.astype(np.float64), material.units, material.seed)),
        )
        for name, number in columns.items()
    )


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
        severity = _colour_severity(figure, float(more.mean()))
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


def _colour_severity(figure: Estimate, share: float) -> Severity | None:
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
