"""Errors of ONNX Runtime on CUDA in words: what CUDA says, without the code that it was said to, and what helps."""

import re

_SAID = re.compile(
    r"(?:CUDA|CUBLAS|CUDNN|CUDNN_FE|CUFFT) failure \d+: [^;]*[^; ]"
    r"|Failed to allocate memory for requested buffer of size \d+"
)
_NO_CUDNN = "cuDNN is unavailable"
_NO_MEMORY = ("out of memory", "Failed to allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def reason_of(error: Exception) -> str:
    """Tells in words why ONNX Runtime failed."""
    text = str(error)
    if _NO_CUDNN in text:
        return (
            f"it finds no cuDNN, which this model needs: pip install 'nvidia-cudnn-cu13>=9' ({_last(text)})"
        )
    said = _SAID.search(text)
    told = said[0] if said else text
    if lacks_memory(error):
        return f"the GPU has no memory left: lower --prefix-cache-bytes, or serve less on it ({told})"
    return told


def lacks_memory(error: Exception) -> bool:
    """Says whether the device had too little memory."""
    return any(words in str(error) for words in _NO_MEMORY)


def _last(text: str) -> str:
    """Cuts off the places in ONNX Runtime's sources."""
    return text[text.index(_NO_CUDNN) :].strip()
