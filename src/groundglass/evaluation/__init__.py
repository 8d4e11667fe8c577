"""Evaluate predictions: metrics with intervals, calibration, comparisons and figures."""
