"""Fit the model by which a segmenter distinguishes axial chest CT from other pictures
(groundglass.segment.chest)."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from groundglass.segment.chest import FARTHEST, ChestModel

REFUSED = 0.003
"""Share of each dataset's chest slices that the model may refuse."""
LEAST = 1.2
"""The threshold is no lower than this, so that shoulders and pelves in soft-tissue windows are refused, whose fat
scored up to 1.15."""
STRENGTH = 0.1
"""Inverse strength of the L2 regularisation."""
NOT_FEATURES = ("kind", "name", "group", "wrong")


def fit(chests: pd.DataFrame, strangers: pd.DataFrame) -> ChestModel:
    """A logistic model with a linear and a quadratic term of each feature.

    Every kind of picture and every dataset has the same weight. The threshold is the highest at which at most
    ``REFUSED`` of the slices of each dataset are refused, but no lower than ``LEAST``.

    Parameters
    ----------
    chests, strangers
        One row per slice: ``kind`` and the features; rows without features, because no lungs were found, are
        left out.
    """
    names = [name for name in chests.columns if name not in NOT_FEATURES]
    chests, strangers = chests.dropna(), strangers.dropna()
    values = [frame[names].to_numpy(float) for frame in (chests, strangers)]
    mean, scale = values[0].mean(axis=0), values[0].std(axis=0) + 1e-6

    def terms(some: NDArray[np.float64]) -> NDArray[np.float64]:
        deviation = ((some - mean) / scale).clip(-FARTHEST, FARTHEST)
        return np.concatenate([deviation, deviation**2], axis=1)

    weights = [
        (1 / frame.groupby("kind")["kind"].transform("size")).to_numpy() for frame in (chests, strangers)
    ]
    every = np.concatenate([one / one.sum() for one in weights])
    truth = np.repeat([1, 0], [len(chests), len(strangers)])
    model = LogisticRegression(C=STRENGTH, max_iter=3000)
    model.fit(terms(np.concatenate(values)), truth, sample_weight=every * len(truth) / 2)
    scores = pd.Series(model.decision_function(terms(values[0])))
    least = scores.groupby(chests["kind"].to_numpy()).quantile(REFUSED).min()
    linear, square = np.split(model.coef_[0], 2)
    columns = zip(mean, scale, linear, square, strict=True)
    return ChestModel(
        terms={
            name: tuple(float(f"{one:.5g}") for one in row) for name, row in zip(names, columns, strict=True)
        },
        intercept=round(float(model.intercept_[0]), 4),
        least=max(LEAST, round(float(least) - 0.005, 2)),
    )
