"""What every trained network of Groundglass is kept and run as: facts, an ONNX graph, a card, an engine."""
