"""A predicted mask against the true one: the Hausdorff distance, and a row of masks.csv."""

import warnings

import numpy as np
from numpy.typing import NDArray

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
from monai.metrics.hausdorff_distance import compute_hausdorff_distance

Mask = NDArray[np.bool_]


def hausdorff95(predicted: Mask, true: Mask) -> float | None:
    """95th percentile of the Hausdorff distance between the outlines of two masks, by MONAI.

    The greater of two percentiles: of the distances from each outline pixel of one mask to the nearest of the
    other, and the other way round (Huttenlocher et al. 1993, doi 10.1109/34.232073; the percentile as in Taha
    & Hanbury 2015, doi 10.1186/s12880-015-0068-x).

    Parameters
    ----------
    predicted, true
        bool, shape (height, width).

    Returns
    -------
    Pixels, or None where either mask is empty, since there is then no outline to measure to.

    Raises
    ------
    ValueError
        If the masks are not boolean, not two-dimensional or differ in shape.
    """
    for mask in (predicted, true):
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise ValueError(f"masks are boolean (height, width), not {mask.dtype} {mask.shape}")
    if predicted.shape != true.shape:
        raise ValueError(f"the masks differ in shape: {predicted.shape} and {true.shape}")
    if not predicted.any() or not true.any():
        return None
    with warnings.catch_warnings():
        # MONAI 1.5 and 1.6 warn at each call that they themselves use an option that will go.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        distance = compute_hausdorff_distance(
            predicted[None, None], true[None, None], include_background=True, percentile=95, directed=False
        )
    return float(distance)


def overlap_row(
    path: str, case: str, structure: str, predicted: Mask, true: Mask
) -> dict[str, str | int | float | None]:
    """A row of masks.csv, as :mod:`groundglass.evaluate.predictions` reads it.

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
