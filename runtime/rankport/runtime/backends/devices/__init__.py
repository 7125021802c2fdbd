"""Parts of a GPU backend, whatever runs its graphs: memory, KV, transfers, the inputs of a pass.

Knows no ONNX Runtime and no TensorRT: those implement its `DeviceGraph`.
"""
