"""The names of the two classes in manifests, predictions and verdicts, and the columns that hold them."""

import re
from collections.abc import Iterable

from groundglass.errors import GroundglassError

POSITIVE = "covid"
"""The positive class is COVID-19 everywhere."""
NEGATIVE = "not covid"
UNCERTAIN = "uncertain"
NO_LESIONS = "none"
"""In a manifest's column ``lesions``: the slice is known to show no lesion, so it needs no mask."""
NOT_A_CHEST_CT = "not a chest CT"
CLASS = "class"
"""Column of predictions: the answered class of a detector of several."""
CLASS_PREFIX = "probability_"
"""Prefix of columns of predictions, followed by a class's name: the probability of each of several classes."""
LUNG_AREAS = ("right_lung_px", "left_lung_px", "right_lesions_px", "left_lesions_px")
"""Columns of predictions: areas in pixels; blank if lungs were not looked for, 0 if none were found."""
LESION_PROBABILITY = "lesion_probability"
"""Column of predictions: the mean probability of lesion over the lungs; blank if lungs were not looked for."""


NAMED = 8
"""Largest number of labels named in an error."""
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of parts, in lower case, and those that manifests use."""

_DISEASE = {"covid", "sars", "sarscov", "cov", "ncov", "corona", "coronavirus", "ncp"}
_POSITIVE = {"positive", "pos"}
_NEGATIVE = {"negative", "neg"}
_NEGATION = {"non", "not", "no", "without"}
_YES = {"1", "1.0", "true", "yes"}
_NO = {"0", "0.0", "false", "no"}
# Words that do not change the meaning: COVID-19, SARS-CoV-2, 2019-nCoV, "COVID CT scans".
_FILLER = {
    "19",
    "2",
    "2019",
    "ct",
    "scan",
    "scans",
    "image",
    "images",
    "slices",
    "chest",
    "class",
    "pneumonia",
}


def canonical_label(name: str) -> str:
    """Return ``covid`` or ``not covid`` if ``name`` clearly means it, else ``name`` in lower case.

    Applying it twice gives the same result. A name with a word that is not understood is kept, because guessing
    a label is worse than showing an unknown one.
    """
    text = name.lower().replace("covid", " covid ")  # also NonCovid and COVIDCT
    words = set(re.findall(r"[a-z]+|[0-9]+", text)) - _FILLER
    if words and words <= _DISEASE | _POSITIVE:
        return POSITIVE
    negated = words & (_NEGATION | _NEGATIVE)
    names_disease = bool(words & _DISEASE)
    if negated and words <= _DISEASE | _NEGATION | _NEGATIVE and (names_disease or negated & _NEGATIVE):
        return NEGATIVE
    return name.strip().lower()


def canonical_labels(names: Iterable[str]) -> list[str]:
    """The canonical label of each scan of one table or folder; a blank stays blank.

    ``1`` and ``0``, ``true`` and ``false``, ``yes`` and ``no`` mean ``covid`` and ``not covid`` if every
    label is one of these or already clear. Next to other labels they are separate classes: with ``2`` in the
    table, ``1`` may be any disease.
    """
    listed = list(names)
    known = {name: canonical_label(name) for name in set(listed)}
    labels = [known[name] for name in listed]
    if set(labels) <= _YES | _NO | {POSITIVE, NEGATIVE, ""}:
        return [POSITIVE if label in _YES else NEGATIVE if label in _NO else label for label in labels]
    return labels


def need_positive(labels: Iterable[str], origin: str) -> None:
    """Refuse labels if none is ``covid``, because a misspelt one would count as a negative.

    Scans that are all labelled ``not covid`` are accepted: they can measure how often a detector is wrong.

    Raises
    ------
    GroundglassError
        If there are other labels but no ``covid``; it names the labels that were found.
    """
    found = sorted(set(labels) - {""})
    if found and POSITIVE not in found and found != [NEGATIVE]:
        named = ", ".join(found[:NAMED]) + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")
        raise GroundglassError(
            f"{origin}: no label means COVID-19 (found: {named}); name the positive class {POSITIVE}, or, if "
            f"no scan shows COVID-19, label them all '{NEGATIVE}'"
        )
