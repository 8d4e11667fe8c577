"""Detection: bundles, the detector and heatmaps. It runs ONNX graphs and never imports torch."""
