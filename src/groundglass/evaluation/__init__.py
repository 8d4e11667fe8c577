"""From predictions.csv to metrics with intervals, calibration and figures."""
