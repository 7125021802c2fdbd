"""Products of low-bit weights as ONNX operators, a form of a target each."""
