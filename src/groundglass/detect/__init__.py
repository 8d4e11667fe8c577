"""Detection: bundles, the detector and heatmaps, on ONNX graphs and never torch."""
