"""Predictions made up for the tests."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from groundglass.labels import NEGATIVE, POSITIVE

Table = Callable[..., pd.DataFrame]


def _table(
    truth: Sequence[bool],
    probability: Sequence[float],
    verdict: Sequence[str] | None = None,
    patient: Sequence[str] | None = None,
    group: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Predictions, by default with verdicts at a threshold of 0.5 and one patient per slice."""
    rows = len(truth)
    probability = np.asarray(probability, dtype=float)
    return pd.DataFrame(
        {
            "path": [f"slice {row}.png" for row in range(rows)],
            "patient": [f"p{row}" for row in range(rows)] if patient is None else patient,
            "group": [""] * rows if group is None else group,
            "label": np.where(truth, POSITIVE, "other"),
            "score": probability / 2,
            "probability": probability,
            "verdict": np.where(probability >= 0.5, POSITIVE, NEGATIVE) if verdict is None else verdict,
        }
    )


@pytest.fixture
def table() -> Table:
    return _table


@pytest.fixture
def random_table() -> Table:
    def make(rows: int, patients: int, seed: int = 0) -> pd.DataFrame:
        generator = np.random.default_rng(seed)
        patient = generator.integers(patients, size=rows)
        truth = patient % 2 == 0
        # Rounding makes ties.
        probability = np.round(1 / (1 + np.exp(-generator.normal(np.where(truth, 0.7, -0.7)))), 2)
        return _table(truth, probability, patient=[f"p{number}" for number in patient])

    return make
