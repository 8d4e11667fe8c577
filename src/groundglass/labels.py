"""The names of the two classes, as they stand in manifests, predictions and verdicts, and of their columns."""

import re

POSITIVE = "covid"
"""The positive class is COVID-19 everywhere."""
NEGATIVE = "not covid"
UNCERTAIN = "uncertain"
NOT_A_CHEST_CT = "not a chest CT"
CLASS = "class"
"""Column of predictions: the answered class of a detector of several."""
CLASS_PREFIX = "probability_"
"""With the class's name behind it, column of predictions: the probability of each of several classes."""
LUNG_AREAS = ("right_lung_px", "left_lung_px", "right_lesions_px", "left_lesions_px")
"""Columns of predictions: areas in pixels; blank if lungs were not looked for, 0 if none were found."""
UNLIKE = "unlike"
"""Column of predictions: 1 if the slice is unlike what the detector was trained on, else 0; blank if not known."""


SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of a part, in lower case, and the one that manifests use."""

_DISEASE = {"covid", "sars", "sarscov", "cov", "ncov", "corona", "coronavirus", "ncp"}
_YES = {"positive", "pos"}
_NO = {"negative", "neg"}
_NEGATION = {"non", "not", "no", "without"}
# Words that leave the meaning as it is: COVID-19, SARS-CoV-2, 2019-nCoV, "COVID CT scans".
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
    """Return ``covid`` or ``not covid`` where ``name`` clearly means it, else ``name`` in lower case.

    Applied twice it gives the same. A name with a word that is not understood is left as it is, since to guess
    a label is worse than to show an unknown one.
    """
    text = re.sub(r"(non|not|no)covid", r"\1 covid", name.lower())
    words = set(re.findall(r"[a-z]+|[0-9]+", text)) - _FILLER
    if words and words <= _DISEASE | _YES:
        return POSITIVE
    negated = words & (_NEGATION | _NO)
    names_disease = bool(words & _DISEASE)
    if negated and words <= _DISEASE | _NEGATION | _NO and (names_disease or negated & _NO):
        return NEGATIVE
    return name.strip().lower()
