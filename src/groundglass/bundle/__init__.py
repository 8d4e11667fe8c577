"""Bundles, the form in which trained networks are stored and run: facts, an ONNX graph, a card, an engine."""
