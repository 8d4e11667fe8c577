"""How right the answers are that a detector is most certain of."""

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from groundglass.errors import GroundglassError
from groundglass.evaluate.predictions import truth_of

CERTAIN_SHARE = 0.8
"""Of the slices, those that count as most certain."""


def certainty(probability: ArrayLike, threshold: float) -> NDArray[np.float64]:
    """How far each probability lies from the threshold, as a share of the way to 0 or 1 on its side.

    At the threshold it is 0, at a probability of 0 or 1 it is 1, wherever the threshold lies; so both answers can
    be equally certain.

    Parameters
    ----------
    probability
        Calibrated, in [0, 1], shape (slices,).
    threshold
        From which on the answer is covid, in [0, 1].

    Returns
    -------
    float64 in [0, 1], shape (slices,). Where there is no way to go, as from a threshold of 1 upwards, 0.
    """
    probability = np.asarray(probability, dtype=np.float64)
    way = np.where(probability >= threshold, 1 - threshold, threshold)
    return np.divide(np.abs(probability - threshold), way, out=np.zeros_like(probability), where=way > 0)


def most_certain_accuracy(predictions: pd.DataFrame, threshold: float, share: float = CERTAIN_SHARE) -> float:
    """Accuracy on the most certain slices, as in selective classification (El-Yaniv and Wiener 2010, JMLR 11).

    Each slice is answered by the side of the threshold that its probability lies on, whatever its verdict, so that
    a detector that answers ``uncertain`` and one that does not are measured alike. Of slices that are equally
    certain at the border, as many as still fit count, each in the same part: the order of rows plays no part.

    Parameters
    ----------
    predictions
        As :func:`~groundglass.evaluate.predictions.read_predictions` gives them, labelled.
    threshold
        On the calibrated probability.
    share
        Of all slices, over 0 and up to 1; the number is rounded up.

    Raises
    ------
    GroundglassError
        If ``share`` is out of its range, there is no row or a label is blank.
    """
    if not 0 < share <= 1:
        raise GroundglassError(f"a share of {share:g}: of the slices, over 0 and up to 1 can be asked for")
    if predictions.empty:
        raise GroundglassError("there are no predictions to be certain of")
    probability = predictions["probability"].to_numpy(dtype=np.float64)
    right = (probability >= threshold) == truth_of(predictions)
    certain = certainty(probability, threshold)
    wanted = math.ceil(share * len(certain) - 1e-9)  # 0.8 of 5 is 4, whatever 0.8 is in binary
    border = np.sort(certain)[-wanted]
    above, at_border = certain > border, certain == border
    fitting = wanted - int(above.sum())
    return float((right[above].sum() + fitting * right[at_border].mean()) / wanted)
