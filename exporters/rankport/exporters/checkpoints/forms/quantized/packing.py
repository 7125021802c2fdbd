"""Codes packed into int32 words, as compressed-tensors and GPTQ both pack them: the lowest bits first."""

import torch
from torch import Tensor


def unpack_words(packed: Tensor, bits: int) -> Tensor:
    """Unpacks int32 [rows, words] -> signed codes int8 [rows, words * 32 / bits], for 4 and 8 bits.

    Stored codes are unsigned, raised by half of their range (compressed_tensors/compressors/pack_quantized/helpers.py).
    """
    assert bits in (4, 8)
    octets = packed.contiguous().view(torch.uint8)  # little-endian, as safetensors is
    if bits == 8:
        return (octets ^ 0x80).view(torch.int8)
    nibbles = torch.stack((octets & 0xF, octets >> 4), dim=-1).flatten(1)
    return nibbles.view(torch.int8) - 8


def words(codes: int, bits: int) -> int:
    """Counts the int32 words that so many codes take."""
    return -(-codes * bits // 32)
