"""GG113 and GG114: whether slices have burnt-in marks or colour, and whether these reveal the label."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundglass.audit.check import NOTHING, Check, NotApplicable, Result, Severity
from groundglass.audit.label_prediction import LabelPrediction, predict_from
from groundglass.audit.material import Material
from groundglass.audit.measures import auc, severity_of, surely_over
from groundglass.bundle.evaluation import Estimate
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.scan.image import COLOURED, FORMATS

KINDS = {"text": "letters", "arrows": "arrows", "rulers": "rulers", "bars": "frames and bars"}
"""The counts of :class:`groundglass.audit.marks.Marks`, with their names."""
COMMON = 0.05
"""If at least this share of slices has marks, a note is given, regardless of the label. False detections
occur on about 2% of slices of one hospital without marks, and on 8% of slices cut from papers."""
TREES = 100
"""Trees per fold: there are five features."""
SHOWN = 12


def _greatest(material: Material, amounts: NDArray[np.number]) -> tuple[tuple[str, ...], ...]:
    """Up to SHOWN files with the largest amounts over 0, one per group, largest first, each as a set."""
    ranked = np.argsort(-amounts, kind="stable")[: np.count_nonzero(amounts)]
    _, first = np.unique(material.units[ranked], return_index=True)
    return tuple((str(material.paths[place]),) for place in ranked[np.sort(first)][:SHOWN])


class BurntIn(Check[Material]):
    """How often each class has burnt-in marks, and how well their counts predict the label."""

    code = "GG113"

    def run(self, material: Material) -> Result:
        """Count marks by class, and predict the label from the counts."""
        marks = material.pictures.marks
        counts = np.array([[getattr(one, kind) for kind in KINDS] for one in marks], dtype=np.intp)
        total = counts.sum(axis=1)
        marked = total > 0
        prediction = _from_marks(material, np.column_stack([counts, [one.share for one in marks]]))
        revealing = prediction is not None and prediction.severity is not None
        severity: Severity | None = "warning" if revealing else "note" if marked.mean() > COMMON else None
        columns = {**dict(zip(KINDS.values(), counts.T, strict=True)), "any of them": total}
        return self.result(
            severity,
            prediction.cross_validated if prediction else NOTHING,
            files=material.paths[marked] if severity else (),
            side_by_side=_greatest(material, total) if severity else (),
            rows=[(name, *_by_class(material, number)) for name, number in columns.items()]
            if marked.any()
            else (),
            marked=marked,
            prediction=prediction,
            shares=(_share(marked[material.truth]), _share(marked[~material.truth])),
        )


def _from_marks(material: Material, features: NDArray[np.floating]) -> LabelPrediction | None:
    """None if there are no marks, or not two classes of two groups each."""
    both = material.truth.any() and not material.truth.all()
    try:
        return predict_from(material, features, trees=TREES) if both and features.any() else None
    except NotApplicable:
        return None


def _share(marked: NDArray[np.bool_]) -> str:
    return f"{marked.mean():.1%}" if marked.size else "no slices"


def _by_class(material: Material, number: NDArray[np.intp]) -> tuple[str, str, Estimate]:
    """The share of each class with any, and the AUC of their count."""
    truth = material.truth
    area = auc(truth, number.astype(np.float64), material.units, material.seed)
    return _share(number[truth] > 0), _share(number[~truth] > 0), area


GREY_MODES = ("1", "L", "La", "LA", "F")
"""Pillow's modes without colour; those of 16 bits and more, which begin with I, have none either."""
SIDE = 256
"""At least this many evenly spaced pixels are examined along each side; all in smaller pictures."""
NOTABLE = 0.05
"""If at least this share of a class's slices is coloured, and the class has significantly more colour, a note is
given: a cue on few slices hardly moves an AUC, but a detector can learn it."""


class Colour(Check[Material]):
    """How much of each slice is coloured, and how well that predicts the label."""

    code = "GG114"

    def run(self, material: Material) -> Result:
        """Measure the coloured share of every slice that is not stored in grey."""
        shares = _coloured_shares(material)
        truth, coloured = material.truth, shares > 0
        figure, commoner, of_class = NOTHING, POSITIVE, truth
        if coloured.any():
            figure = auc(truth, shares, material.units, material.seed)
        # The class with more colour is predicted, so that the figure is at least 0.5.
        if figure.value is not None and figure.value < 0.5:
            figure, commoner, of_class = auc(~truth, shares, material.units, material.seed), NEGATIVE, ~truth
        notable = coloured[of_class].mean() >= NOTABLE and surely_over(figure, 0.5)
        severity: Severity | None = "warning" if severity_of(figure) else "note" if notable else None
        both = ((POSITIVE, truth), (NEGATIVE, ~truth))
        return self.result(
            severity,
            figure,
            files=material.paths[coloured] if severity else (),
            side_by_side=_greatest(material, shares) if severity else (),
            rows=[
                (label, f"{coloured[of].sum()} of {of.sum()}", f"{shares[of].max():.1%}")
                for label, of in both
            ]
            if coloured.any()
            else (),
            shares=shares,
            covid=coloured[truth],
            other=coloured[~truth],
            commoner=commoner,
        )


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
