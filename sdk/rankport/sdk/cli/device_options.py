"""What several commands ask about devices: sizes of memory, and which GPUs."""

import re

import typer

_UNITS = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def size_in_bytes(text: str) -> int:
    """`4GiB`, `512 MiB`, `2.5GB` or a plain number of bytes."""
    matched = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(text))
    if matched is None or matched[2].upper() not in _UNITS:
        raise typer.BadParameter(f"{text!r} is no size: give bytes, or for example 512MiB, 4GiB")
    return int(float(matched[1]) * _UNITS[matched[2].upper()])


def gpu_numbers(text: str) -> tuple[int, ...]:
    """`0,2` as numbers; `all` as those that this machine has."""
    if text.strip() == "all":
        from rankport.runtime.backends.devices.gpus import gpus

        found = tuple(range(len(gpus())))
        if not found:
            raise typer.BadParameter("'all': this machine shows no GPU (rankport doctor says more)")
        return found
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise typer.BadParameter(f"{text!r}: give numbers of GPUs, for example 0,1, or all")
    return tuple(int(word) for word in words)
