"""Arithmetic of a large catalogue: GPU hours, bytes, shards, refresh and re-encoding, from inputs that may be changed.

    python -m benchmarks.catalogue_plan [--items 1e8 --items 1e10] [--tokens 100] [--json plan.json]

What is measured and what is assumed is told beside each input; docs/catalogues.md has the table of the defaults.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path

HOURS_S, DAY_S = 3600.0, 86_400.0


@dataclass(frozen=True, slots=True)
class Inputs:
    """Inputs of a plan; `source` in the metadata says where the default is from."""

    tokens: float = field(
        default=100.0, metadata={"source": "tokens an item, of title and short description"}
    )
    parameters: float = field(
        default=4.4e8, metadata={"source": "weights in products, Qwen3-0.6B's shape without its embeddings"}
    )
    tflops: float = field(default=787.0, metadata={"source": "bf16 products on one H200, measured"})
    share: float = field(
        default=0.32, metadata={"source": "share of that in passes over full text on one H200, measured"}
    )
    gpus: float = field(default=8.0, metadata={"source": "of a node; assumed"})
    hidden: float = field(default=1024.0, metadata={"source": "width of an embedding token"})
    k: float = field(default=1.0, metadata={"source": "embedding tokens an item"})
    key_bytes: float = field(default=16.0, metadata={"source": "of an item's key; assumed"})
    changed: float = field(
        default=0.02, metadata={"source": "share of the items that change in a day; assumed"}
    )
    read_rows_s: float = field(
        default=1.1e5,
        metadata={"source": "rows of Parquet a second and core, read and checked, measured (of CSV 180,000)"},
    )
    tokenized_s: float = field(
        default=4.3e5,
        metadata={"source": "tokens a second and core, WordPiece of the ESCO descriptions, measured"},
    )
    part_items: float = field(default=32_768.0, metadata={"source": "rows of a part: 32 batches of 1,024"})


@dataclass(frozen=True, slots=True)
class Plan:
    """Figures of a catalogue."""

    items: float
    gpu_hours: float
    node_hours: float
    reader_cores: float  # that keep a node's GPUs fed: reading and tokenizing
    bytes_fp16: float
    bytes_int8: float
    id_hash_bytes: float  # while duplicates are looked for
    parts: float
    daily_gpu_hours: float  # of what changes
    items_s_nearline: float  # of what changes, spread over the day


def plan_of(items: float, inputs: Inputs) -> Plan:
    """Computes a plan: 2 operations a weight and token, by the share of the ceiling that passes reach."""
    item_s = inputs.tokens * 2 * inputs.parameters / (inputs.tflops * 1e12 * inputs.share)
    gpu_hours = items * item_s / HOURS_S
    elements = inputs.k * inputs.hidden
    fixed = inputs.key_bytes + 16 + 8 + 8  # content hash, write time, index
    return Plan(
        items=items,
        gpu_hours=gpu_hours,
        node_hours=gpu_hours / inputs.gpus,
        reader_cores=inputs.gpus / item_s * (1 / inputs.read_rows_s + inputs.tokens / inputs.tokenized_s),
        bytes_fp16=items * (2 * elements + fixed),
        bytes_int8=items * (elements + 4 * inputs.k + fixed),
        id_hash_bytes=items * 40,
        parts=items / inputs.part_items,
        daily_gpu_hours=gpu_hours * inputs.changed,
        items_s_nearline=items * inputs.changed / DAY_S,
    )


def table(plans: Sequence[Plan]) -> str:
    """Writes the plans side by side, as Markdown."""
    rows: list[tuple[str, list[str]]] = [
        ("items", [f"{plan.items:,.0f}" for plan in plans]),
        ("GPU hours, all encoded once", [f"{plan.gpu_hours:,.1f}" for plan in plans]),
        ("hours of one node", [f"{plan.node_hours:,.1f}" for plan in plans]),
        ("cores that read and tokenize for a node", [f"{plan.reader_cores:.1f}" for plan in plans]),
        ("store, float16", [_bytes(plan.bytes_fp16) for plan in plans]),
        ("store, int8 with scales", [_bytes(plan.bytes_int8) for plan in plans]),
        ("hashes of ids while duplicates are sought", [_bytes(plan.id_hash_bytes) for plan in plans]),
        ("parts of a dataset", [f"{plan.parts:,.0f}" for plan in plans]),
        ("GPU hours a day, of what changes", [f"{plan.daily_gpu_hours:,.2f}" for plan in plans]),
        ("changes a second, if nearline", [f"{plan.items_s_nearline:,.0f}" for plan in plans]),
    ]
    head, *rest = rows
    lines = [f"| {head[0]} | {' | '.join(head[1])} |", "|---|" + "---|" * len(plans)]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(values)} |" for name, values in rest)])


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e6:,.1f} MB"


def _number(text: str, *, zero: bool = False) -> float:
    """Reads a finite number above 0, or from 0 on."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise argparse.ArgumentTypeError(f"{text!r} is no number {'from 0 on' if zero else 'above 0'}")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--items", type=_number, action="append", help="may be given again [default: 1e8 and 1e10]"
    )
    parser.add_argument("--json", type=Path, help="write inputs and plans here")
    for each in fields(Inputs):
        parser.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=partial(_number, zero=each.name == "changed"),
            default=each.default,
            help=each.metadata["source"] + " [default: %(default)g]",
        )
    given = vars(parser.parse_args())
    inputs = Inputs(**{each.name: given[each.name] for each in fields(Inputs)})
    plans = [plan_of(items, inputs) for items in given["items"] or (1e8, 1e10)]
    print(table(plans))
    if given["json"]:
        content = {"inputs": asdict(inputs), "plans": [asdict(plan) for plan in plans]}
        given["json"].write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
