"""Compare a segmenter's masks with the true ones: areas, overlap and Hausdorff distance, as rows of masks.csv."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
from monai.metrics.hausdorff_distance import compute_hausdorff_distance

from groundglass.errors import GroundglassError, ScanError
from groundglass.evaluation.predictions import STRUCTURES
from groundglass.segment.segmenter import Segmenter
from groundglass.train.masks import read_truth

Watch = Callable[[Iterable[Any], int], Iterable[Any]]
Mask = NDArray[np.bool_]


def overlaps(
    segmenter: Segmenter, rows: pd.DataFrame, watch: Watch = lambda items, total: items
) -> pd.DataFrame:
    """Measure how a segmenter's masks overlap with the truth: the table of groundglass.evaluation.predictions.

    The masks are those that users get: empty if the segmenter reports a problem.

    Parameters
    ----------
    segmenter
        The segmenter to evaluate.
    rows
        Manifest rows with masks; for each slice, the structures with masks are measured: lungs, lesions or
        both.
    watch
        Receives the work and its length and passes it on, for a progress bar.

    Raises
    ------
    ScanError
        If a slice cannot be read.
    GroundglassError
        If a mask cannot be read, or its size differs from that of its slice.
    """
    return pd.DataFrame(list(_rows(segmenter, rows, watch)))


def _rows(segmenter: Segmenter, rows: pd.DataFrame, watch: Watch) -> Iterator[dict[str, Any]]:
    paths = [Path(path) for path in rows["path"]]
    answers = watch(segmenter.segment_files(paths), len(paths))
    for (path, answer), (_, row) in zip(answers, rows.iterrows(), strict=True):
        if isinstance(answer, ScanError):
            raise answer
        found = answer[1]
        truth = read_truth(row)
        masks = (found.trusted_lungs, found.trusted_lesions)
        for structure, predicted in zip(STRUCTURES, masks, strict=True):
            true = truth.get(structure)
            if true is None:
                continue
            if true.shape == (1, 1):
                true = np.broadcast_to(true, predicted.shape)
            if true.shape != predicted.shape:
                named = row[structure] or row["lesion_types"]
                raise GroundglassError(f"{named}: its size {true.shape} differs from that of {path}")
            yield overlap_row(str(path), row["patient"] or str(path), structure, predicted, true)


def hausdorff95(predicted: Mask, true: Mask) -> float | None:
    """95th percentile of the Hausdorff distance between the outlines of two masks, by MONAI.

    The greater of two percentiles: of the distances from each outline pixel of one mask to the nearest of the
    other, and vice versa (Huttenlocher et al. 1993, doi 10.1109/34.232073; the percentile as in Taha &
    Hanbury 2015, doi 10.1186/s12880-015-0068-x).

    Parameters
    ----------
    predicted, true
        bool, shape (height, width).

    Returns
    -------
    Pixels, or None if either mask is empty, since there is no outline then.

    Raises
    ------
    ValueError
        If the masks are not boolean, not two-dimensional or differ in shape.
    """
    for mask in (predicted, true):
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise ValueError(f"masks must be boolean (height, width), not {mask.dtype} {mask.shape}")
    if predicted.shape != true.shape:
        raise ValueError(f"the masks differ in shape: {predicted.shape} and {true.shape}")
    if not predicted.any() or not true.any():
        return None
    with warnings.catch_warnings():
        # MONAI 1.5 and 1.6 warn at each call that they use a deprecated option themselves.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        distance = compute_hausdorff_distance(
            predicted[None, None], true[None, None], include_background=True, percentile=95, directed=False
        )
    return float(distance)


def overlap_row(
    path: str, case: str, structure: str, predicted: Mask, true: Mask
) -> dict[str, str | int | float | None]:
    """A row of masks.csv, as :mod:`groundglass.evaluation.predictions` reads it.

    Parameters
    ----------
    path, case, structure
        The slice's file, its patient or volume, and ``lungs`` or ``lesions``.
    predicted, true
        bool, shape (height, width), in pixels of the slice.

    Raises
    ------
    ValueError
        As :func:`hausdorff95`.
    """
    distance = hausdorff95(predicted, true)
    return {
        "path": path,
        "case": case,
        "structure": structure,
        "true_px": int(true.sum()),
        "predicted_px": int(predicted.sum()),
        "common_px": int((predicted & true).sum()),
        "hd95": distance,
    }
