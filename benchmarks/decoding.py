"""Tokens written a second by a 0.6 B decoder on the CPU, against onnxruntime-genai and the memory's own limit.

    python -m benchmarks.decoding [--genai PYTHON] [--precision int4 fp32] [--rounds 5] [--out build/bench]

The checkpoint has Qwen3-0.6B's shape and random weights. Both write the same number of tokens greedily behind the same
prompts, in turn; a step is what one token more costs, so that neither prompt nor start counts. The limit is the time in
which the weights of a step can be read, at the fastest of three ways to read this machine's memory.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from benchmarks.edge import CONFIG, save_checkpoint
from benchmarks.machine import describe_machine
from rankport.protos.generation import Sampling
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.table import open_bundle

OUT = Path("build/decoding")
PROMPT, TOKENS = 32, 48
TEXTS = (1, 4, 16)
GOAL = 0.8
LIMITS = ("--max-prefix-tokens", "256", "--max-item-tokens", "256")

Ids = list[list[int]]
Write = Callable[[Ids, int], Ids]
"""Writes so many tokens behind each prompt."""


def main() -> None:
    """Exports what is missing, measures all in turn, prints ratios, writes decoding.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--genai", type=Path, help="Python of an environment with onnxruntime-genai")
    parser.add_argument("--precision", nargs="*", default=["int4", "fp32"], help="default: both")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="default: %(default)s")
    given = parser.parse_args()
    console = Console()
    checkpoint = saved_checkpoint(OUT / "checkpoint")
    report: dict[str, Any] = {"prompt": PROMPT, "tokens": TOKENS, "threads": given.threads, "goal": GOAL}
    report["read_gb_s"] = read_rate() / 1e9
    console.print(f"memory: {report['read_gb_s']:.1f} GB/s read")
    for precision in given.precision:
        bundle = exported(checkpoint, precision, console)
        with ExitStack() as opened:
            writers = {"rankport": ours(bundle, given.threads, opened)}
            if given.genai is not None:
                writers["onnxruntime-genai"] = genai(
                    given.genai, checkpoint, precision, given.threads, opened
                )
            limit = weight_bytes(bundle) / (report["read_gb_s"] * 1e9)
            report[precision] = {"weights_mb": weight_bytes(bundle) / 1e6, "limit_s": limit}
            report[precision] |= measured(writers, given.rounds, limit)
        show(console, precision, report[precision])
    report["machine"] = describe_machine()
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "decoding.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def saved_checkpoint(folder: Path) -> Path:
    """Makes random weights, and a tokenizer whose words are single tokens."""
    if (folder / "tokenizer.json").exists():
        return folder
    save_checkpoint(folder)
    names = ("[PAD]", "[BOS]", "[EOS]")
    vocabulary = {names[token] if token < 3 else f"w{token}": token for token in range(CONFIG.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = dict(zip(("pad_token", "bos_token", "eos_token"), names, strict=True))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)  # type: ignore[no-untyped-call]
    fast.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folder


def exported(checkpoint: Path, precision: str, console: Console) -> Path:
    """`rankport export`, where the bundle is missing."""
    bundle = OUT / f"{precision}.bundle"
    if not bundle.exists():
        console.print(f"exporting {precision}")
        # Of random weights rounding alone reorders logits as often as the bundle does: its order is no proof.
        low_bits = ("--quantize", precision, "--min-kendall-tau", "0.9")
        quantize = () if precision == "fp32" else low_bits
        subprocess.run(
            [
                *(sys.executable, "-m", "rankport.sdk.cli", "export", str(checkpoint), "--kind", "generator"),
                *(*quantize, *LIMITS, "--stop-ids", "2", "--out", str(bundle)),
            ],
            check=True,
        )
    return bundle


def read_rate(size: int = 1 << 29, rounds: int = 5) -> float:
    """Measures bytes read a second: a sum, a copy (of which half is read) and a product with a vector; the fastest."""
    rows = torch.rand(size // 4 // 4096, 4096)
    vector, other = torch.rand(4096), torch.empty_like(rows)
    ways: tuple[Callable[[], object], ...] = (
        rows.sum,
        lambda: other.copy_(rows),
        lambda: torch.mv(rows, vector),
    )
    return size / min(_seconds(way) for way in ways for _ in range(rounds))


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def weight_bytes(bundle: Path) -> int:
    """Counts the bytes of the weights that a step multiplies: all matrices, scales included, but no table of rows."""
    manifest = open_bundle(bundle).manifest
    config, head_dim = CONFIG, CONFIG.head_dim
    kv_heads = config.num_key_value_heads or config.num_attention_heads
    attention = head_dim * (2 * config.num_attention_heads + 2 * kv_heads)
    layer = config.hidden_size * (attention + 3 * config.intermediate_size)
    weights = config.num_hidden_layers * layer + config.hidden_size * config.vocab_size
    if manifest.quantization is None:
        return 4 * weights
    matrices = [part for part in manifest.quantization.parts if part.part == "linear"]
    return sum(
        part.weights * part.bits // 8 + 4 * (part.weights // (part.group_size or 1024)) for part in matrices
    )


def ours(bundle: Path, threads: int, opened: ExitStack) -> Write:
    """Opens the bundle in this process."""
    generator = opened.enter_context(Generator.load(bundle, config=EngineConfig(threads=threads)))

    def write(prompts: Ids, tokens: int) -> Ids:
        order = Sampling(max_tokens=tokens, temperature=0.0)
        futures = [generator.submit_generate(prompt, order) for prompt in prompts]
        return [list(future.result().token_ids) for future in futures]

    return write


def genai(python: Path, checkpoint: Path, precision: str, threads: int, opened: ExitStack) -> Write:
    """Starts the peer in its own environment."""
    script = Path(__file__).with_name("peers") / "genai.py"
    folder = OUT / f"genai-{precision}"
    process = opened.enter_context(
        subprocess.Popen(
            [str(python), str(script), str(checkpoint), str(folder), precision, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    assert process.stdin is not None
    assert process.stdout is not None
    opened.callback(process.stdin.close)
    stdin, stdout = process.stdin, process.stdout
    if not stdout.readline():
        sys.exit("onnxruntime-genai did not start")

    def write(prompts: Ids, tokens: int) -> Ids:
        stdin.write(json.dumps({"prompts": prompts, "tokens": tokens}) + "\n")
        stdin.flush()
        ids: Ids = json.loads(stdout.readline())["ids"]
        return ids

    return write


def measured(writers: dict[str, Write], rounds: int, limit: float) -> dict[str, Any]:
    """Measures steps with one text and several: medians over rounds, in which all take turns."""
    result: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    for texts in TEXTS:
        steps: dict[str, list[float]] = {name: [] for name in writers}
        for _ in range(rounds):
            prompts = rng.integers(3, CONFIG.vocab_size, (texts, PROMPT)).tolist()
            for name, write in writers.items():
                steps[name].append(_step(write, prompts))
        medians = {name: statistics.median(times) for name, times in steps.items()}
        result[str(texts)] = {
            "step_s": medians,
            "tokens_s": {name: texts / step for name, step in medians.items()},
            "share_of_limit": {name: limit / step for name, step in medians.items()},
            "faster_than_peer": _faster(steps),
        }
    return result


def _step(write: Write, prompts: Ids) -> float:
    """Seconds of one step more: those of a text of many tokens less those of a text of one, prompt read by then."""
    write(prompts, 1)
    short = _seconds(lambda: write(prompts, 1))
    return (_seconds(lambda: write(prompts, 1 + TOKENS)) - short) / TOKENS


def _faster(steps: Mapping[str, Sequence[float]]) -> float | None:
    if "onnxruntime-genai" not in steps:
        return None
    pairs = zip(steps["onnxruntime-genai"], steps["rankport"], strict=True)
    return float(statistics.median(theirs / mine for theirs, mine in pairs))


def show(console: Console, precision: str, figures: dict[str, Any]) -> None:
    """One table a precision."""
    title = f"Qwen3-0.6B shape, {precision}: {figures['weights_mb']:,.0f} MB a step"
    table = Table("texts", "writer", "tokens/s", "share of the limit", title=title, title_justify="left")
    for texts in TEXTS:
        row = figures[str(texts)]
        for name, rate in row["tokens_s"].items():
            table.add_row(str(texts), name, f"{rate:,.1f}", f"{row['share_of_limit'][name]:.0%}")
        if row["faster_than_peer"] is not None:
            table.add_row("", "rankport / peer", f"{row['faster_than_peer']:.2f} x")
    console.print(table)


if __name__ == "__main__":
    main()
