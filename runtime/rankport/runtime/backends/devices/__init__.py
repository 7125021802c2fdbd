"""Backends of a GPU, whatever runs their graphs: a module each by what they answer, and what they are made of.

Knows no ONNX Runtime and no TensorRT: those implement its `DeviceGraph`. `cuda` alone knows whose GPU it is;
`transfers` cross to it and back, `resident` stays there.
"""
