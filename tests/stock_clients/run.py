"""Runs the stock clients against a served ranker, encoder and writer, and compares their answers with those in process.

python -m stock_clients.run --python build/stock_clients/bin/python [--record tests/stock_clients/requests.json]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rankport.exporters.export import export
from rankport.exporters.options.tolerance import Tolerance
from rankport.protos.generation import Sampling
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from stock_clients.recorder import recording
from support.servers.loaded_models import loaded_models

QUERY = "registered nurse in intensive care"
TEXTS = [
    "hospital nurse",
    "welder of ships",
    "paramedic",
    "nurse – “night shift”, Köln",
    "software developer",
]
_CLIENTS = Path(__file__).with_name("clients.py")
_CHECKPOINT = Path(__file__).parents[2] / "examples" / "esco" / "checkpoint"


def main() -> int:
    """Returns how many clients failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="of the clients' environment")
    parser.add_argument(
        "--bundles", default="build/demo", help="folder with ranker.bundle and encoder.bundle"
    )
    parser.add_argument("--record", type=Path, help="file for the requests that the clients sent")
    given = parser.parse_args()
    paths = [f"{name}={given.bundles}/{name}.bundle" for name in ("ranker", "encoder")]
    config = ServerConfig(port=0, http_port=0)
    with (
        tempfile.TemporaryDirectory() as folder,
        loaded_models([*paths, f"writer={_writer(Path(folder))}"], None, EngineConfig()) as models,
        Server(models, config) as server,
    ):
        expected = _expected(models)
        with recording(server.http_address) as (url, sent):
            outcomes = _run(given.python, url, server.address)
    failures = [name for name, outcome in outcomes.items() if not _tell(name, outcome, expected[name])]
    if given.record is not None:
        given.record.write_text(json.dumps(sent, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(outcomes) - len(failures)} passed, {len(failures)} failed")
    return len(failures) + (not outcomes)


def _run(python: str, url: str, address: str) -> Mapping[str, Any]:
    command = [python, str(_CLIENTS), url, address, "ranker", "encoder", "writer", QUERY]
    run = subprocess.run(command, input=json.dumps(TEXTS), capture_output=True, text=True, timeout=600)
    if run.returncode:
        sys.exit(run.stderr)
    outcomes = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"client"')]
    return {outcome["client"]: outcome for outcome in outcomes}


def _writer(folder: Path) -> Path:
    """Exports the demo's decoder as a writer, whose prompt has a field for each of two roles."""
    prompt, bundle = folder / "prompt.toml", folder / "writer.bundle"
    prompt.write_text('[[prefix]]\nfield = "system"\n[[prefix]]\nfield = "user"\n[[item]]\nitem = true\n')
    limits = {"max_prefix_tokens": 64, "max_item_tokens": 64}
    large = Tolerance(max_abs_error=1e-3)  # of logits of hundreds
    export(_CHECKPOINT, bundle, kind="generator", prompt=str(prompt), tolerance=large, **limits)
    return bundle


def expected_texts(writer: Generator) -> Mapping[str, list[tuple[str, float]]]:
    """Gives what each client that has texts written is to read: the text, and its tokens."""
    sampling = Sampling(max_tokens=8, temperature=0.0, presence_penalty=0.5, frequency_penalty=0.25)
    asked = {"system": QUERY, "user": TEXTS[0]}
    chat = writer.generate(asked, sampling)
    whole = writer.generate([5, 6, 7], replace(sampling, logit_bias={7: 1.0}, min_tokens=2))
    own = {"openai_completion": [(whole.text, whole.usage.generated_tokens)]}
    chats = ("openai_chat", "openai_chat_stream", "litellm_chat", "litellm_vllm_chat")
    chats += ("langchain_chat", "langchain_chat_stream")
    return own | {name: [(chat.text, chat.usage.generated_tokens)] for name in chats}


def _expected(models: Mapping[str, Any]) -> Mapping[str, list[tuple[str, float]]]:
    ranked = models["ranker"].rank(QUERY, TEXTS, return_items=True)
    scores = list(zip(ranked.items, ranked.scores.tolist(), strict=True))
    logits = list(zip(ranked.items, (ranked.logits[:, 0] - ranked.logits[:, 1]).tolist(), strict=True))
    rows = models["encoder"].encode(TEXTS)[:, 0, 0].tolist()
    names = ("vllm_ranker", "tei_ranker", "jina_ranker", "cohere_ranker", "llama_index_tei")
    expected = dict.fromkeys(
        (
            *names,
            "llama_index_cohere",
            "langchain_cohere",
            "kserve_typed",
            "kserve_raw",
            "kserve_http",
            "triton_http",
        ),
        scores,
    )
    tops = ("vllm_ranker_top", "voyage_ranker", "litellm_cohere", "litellm_tei", "litellm_vllm")
    vectors = list(zip(TEXTS, rows, strict=True))
    return (
        expected
        | expected_texts(models["writer"])
        | {
            **dict.fromkeys(tops, scores[:2]),
            "tei_ranker_cut": logits,
            "nvidia_ranker": logits,
            **dict.fromkeys(
                (
                    "openai_embeddings",
                    "voyage_embeddings",
                    "cohere_embeddings",
                    "cohere_embeddings_v1",
                    "tei_embedder",
                ),
                vectors,
            ),
        }
    )


def _tell(name: str, outcome: Mapping[str, Any], expected: Sequence[tuple[str, float]]) -> bool:
    if "error" in outcome:
        print(f"{name}: FAILED, {outcome['error']}")
        return False
    texts, scores = zip(*outcome["answer"], strict=True)
    same = list(texts) == [text for text, _ in expected]
    close = same and np.allclose(scores, [score for _, score in expected], rtol=1e-5, atol=1e-6)
    print(f"{name}: {'as in process' if close else 'FAILED, it gives ' + str(outcome['answer'])}")
    return bool(close)


if __name__ == "__main__":
    sys.exit(main())
