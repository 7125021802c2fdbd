"""Codes packed into int32 words, as compressed-tensors and GPTQ do, or fp4 into bytes: the lowest bits first.

fp4 is e2m1, whose 16 values are 0, .5, 1, 1.5, 2, 3, 4, 6 and their negatives; scales of powers of two are e8m0, their
exponents plus 127 (OCP Microscaling Formats 1.0, section 5.3).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from rankport.protos.errors import CheckpointError

_DOUBLED = (0, 1, 2, 3, 4, 6, 8, 12)
_BIAS, _NAN = 127, 255
_ROWS = 256


def unpack_fp4(octets: Tensor) -> Tensor:
    """Unpacks uint8 [..., bytes] -> twice the values of fp4, which are whole: int8 [..., 2 * bytes]."""
    values = torch.tensor([*_DOUBLED, *(-value for value in _DOUBLED)], dtype=torch.int8)
    nibbles = torch.stack((octets & 0xF, octets >> 4), dim=-1).flatten(-2)
    unpacked: Tensor = values[nibbles.to(torch.int32)]
    return unpacked


def powers_of_two(name: str, stored: Tensor) -> Tensor:
    """Reads scales e8m0, uint8, as fp32. Raises CheckpointError for NaN."""
    if bool((stored == _NAN).any()):
        raise CheckpointError(f"tensor {name!r} holds NaN: the checkpoint is damaged")
    exponents = stored.to(torch.int32) - _BIAS
    return torch.ldexp(torch.ones(stored.shape), exponents)


def unpack_words(packed: Tensor, bits: int) -> Tensor:
    """Unpacks int32 [rows, words] -> signed codes int8 [rows, words * 32 // bits], for 2 to 8 bits.

    Stored codes are unsigned, raised by half of their range, one behind the other across words too
    (compressed_tensors/compressors/pack_quantized/helpers.py).
    """
    octets = packed.contiguous().view(torch.uint8)  # little-endian, as safetensors is
    if bits == 8:
        return (octets ^ 0x80).view(torch.int8)
    if bits != 4:
        return _unpacked_bits(octets, bits)
    nibbles = torch.stack((octets & 0xF, octets >> 4), dim=-1).flatten(1)
    return nibbles.view(torch.int8) - 8


def _unpacked_bits(octets: Tensor, bits: int) -> Tensor:
    """Unpacks codes of any number of bits, some rows at a time: meanwhile a bit takes a byte."""
    codes = 8 * octets.shape[1] // bits
    unpacked = torch.zeros(len(octets), codes, dtype=torch.uint8)
    places = torch.arange(8, dtype=torch.uint8)
    for start in range(0, len(octets), _ROWS):
        part = octets[start : start + _ROWS]
        single = ((part[..., None] >> places) & 1).flatten(1)[:, : codes * bits].reshape(-1, codes, bits)
        for place in range(bits):
            unpacked[start : start + _ROWS] |= single[..., place] << place
    return (unpacked.to(torch.int16) - (1 << (bits - 1))).to(torch.int8)


def words(codes: int, bits: int) -> int:
    """Counts the int32 words that so many codes take."""
    return -(-codes * bits // 32)


def kept_bits(bits: int) -> int:
    """Gives the bits of the grid that codes are kept on: products have two of them."""
    return 4 if bits <= 4 else 8


def widened(stored: Iterable[int]) -> tuple[str, ...]:
    """Notes the bits of stored codes that the bundle has wider ones of."""
    return tuple(
        f"weights stored in {bits} bits are kept in {kept_bits(bits)}"
        for bits in sorted(set(stored))
        if bits != kept_bits(bits)
    )
