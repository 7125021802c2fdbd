"""What a GPU backend is made of, whatever runs its graphs: memory, KV, transfers, the inputs of a pass.

Knows no ONNX Runtime and no TensorRT: those implement its `DeviceGraph`.
"""
