"""Runs the stock clients against a served ranker and encoder, and compares their answers with those in process.

python -m stock_clients.run --python build/stock_clients/bin/python [--record tests/stock_clients/requests.json]
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rankport.runtime.config import EngineConfig
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
    with loaded_models(paths, None, EngineConfig()) as models, Server(models, config) as server:
        expected = _expected(models)
        with recording(server.http_address) as (url, sent):
            outcomes = _run(given.python, url, server.address)
    failures = [name for name, outcome in outcomes.items() if not _tell(name, outcome, expected[name])]
    if given.record is not None:
        given.record.write_text(json.dumps(sent, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(outcomes) - len(failures)} passed, {len(failures)} failed")
    return len(failures) + (not outcomes)


def _run(python: str, url: str, address: str) -> Mapping[str, Any]:
    command = [python, str(_CLIENTS), url, address, "ranker", "encoder", QUERY]
    run = subprocess.run(command, input=json.dumps(TEXTS), capture_output=True, text=True, timeout=600)
    if run.returncode:
        sys.exit(run.stderr)
    outcomes = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"client"')]
    return {outcome["client"]: outcome for outcome in outcomes}


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
    return expected | {
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
