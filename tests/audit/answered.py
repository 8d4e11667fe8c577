"""Trials with made-up answers: no detector runs, and no file is read."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from groundglass.audit.material import SIDE, Material, SmallPictures
from groundglass.audit.trial import Trial
from groundglass.bundle.evaluation import Evaluation
from groundglass.detect.patient_rule import slices_rule
from groundglass.labels import NEGATIVE, POSITIVE

PNG = {"width": 512.0, "height": 512.0, "format": "PNG"}


def answered(
    truth: Sequence[bool],
    probability: Sequence[float],
    *,
    patient: Sequence[str] | None = None,
    source: Sequence[str] | str = "made",
    headers: dict[str, Any] | None = None,
    verdict: Sequence[str] | None = None,
    threshold: float = 0.5,
    validation: Evaluation | None = None,
) -> Trial:
    """A trial in which each slice is a separate patient, named only if ``patient`` is given."""
    rows = len(truth)
    probability = np.asarray(probability, dtype=float)
    manifest = pd.DataFrame(
        {
            "path": [f"/made/{row}.png" for row in range(rows)],
            "label": np.where(truth, POSITIVE, NEGATIVE),
            "patient": [""] * rows if patient is None else patient,
            "split": "test",
            "source": source,
        }
    )
    blank = np.zeros((rows, SIDE, SIDE), dtype=np.uint8)
    material = Material("made", manifest, SmallPictures(blank, blank > 0, blank > 0, ()), with_lungs=False)
    material.headers = pd.DataFrame(PNG | (headers or {}), index=range(rows))
    given = np.where(probability >= threshold, POSITIVE, NEGATIVE) if verdict is None else verdict
    predictions = manifest.assign(group="", score=probability, probability=probability, verdict=given)
    facts = SimpleNamespace(threshold=threshold, validation=validation, patient_rule=slices_rule(threshold))
    detector: Any = SimpleNamespace(bundle=SimpleNamespace(facts=facts, fingerprints=None))
    return Trial(detector, material, predictions, None, external=True, part="test")
