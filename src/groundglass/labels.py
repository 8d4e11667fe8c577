"""The names of the two classes, as they stand in manifests, predictions and verdicts."""

POSITIVE = "covid"
"""The positive class is COVID-19 everywhere."""
NEGATIVE = "not covid"
UNCERTAIN = "uncertain"
NOT_A_CHEST_CT = "not a chest CT"
