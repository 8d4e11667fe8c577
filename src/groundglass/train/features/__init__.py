"""Detectors from deep features: a frozen network describes a slice, and a classifier of scikit-learn answers."""
