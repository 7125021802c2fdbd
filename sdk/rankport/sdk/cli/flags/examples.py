"""A line of each command that shows how it is called: what its help ends with."""

from collections.abc import Mapping
from typing import Any

EXAMPLES: Mapping[str, str] = {
    "export": "RANKER --kind ranker --labels yes,no --target onnx-cpu,tensorrt-rtx:sm86,sm89 --out ranker.bundle",
    "verify": "ranker.bundle --checkpoint RANKER --judged judged.jsonl --store tokens.lmdb --html proof.html",
    "inspect": "ranker.bundle --json - | jq .parity",
    "ground": "RANKER --pairs pairs.jsonl --add-tokens tokens.txt --out GROUNDED",
    "encode": "--bundle encoder.bundle --items 'new/*.csv' --text '{title}. {description:200}' --store tokens.lmdb",
    "nearline": "--redis redis://localhost:6379/0 --stream items --bundle encoder.bundle --store tokens.lmdb",
    "store inspect": "tokens.lmdb --check",
    "store diff": "hot.snapshot tokens.lmdb --list -",
    "store copy": "tokens.lmdb hot.snapshot",
    "store compact": "tokens.lmdb",
    "store publish": "FINGERPRINT --store tokens.lmdb",
    "store drop": "FINGERPRINT --store tokens.lmdb",
    "serve": "ranker.bundle encoder.bundle --store tokens.lmdb --port 8500 --http-port 8080",
    "models list": "--server localhost:8500",
    "models load": "jobs-v2.bundle --alias prod --replace",
    "models unload": "jobs@1",
    "models alias": "prod jobs@1=95 jobs@2=5",
    "models rollback": "prod",
    "jobs list": "--server localhost:8500 --json",
    "jobs create": "--items items.csv --store tokens --id nightly --watch",
    "jobs show": "nightly",
    "jobs watch": "nightly --json",
    "jobs cancel": "nightly",
    "jobs retry": "nightly --watch",
    "token new": "search --file clients.txt --items-per-s 20000",
    "trie build": "movies.jsonl --bundle movies.bundle --out tries/movies",
    "score": "--server localhost:8500 --field query='resistance welder' --keys occ0492 occ1809",
    "tag": "--bundle slots.bundle 'table for two in Ghent'",
    "classify": "--bundle intents.bundle 'play some jazz' 'will it rain tomorrow'",
    "generate": "--bundle explainer.bundle --field job=Nurse --field person='8 years of care' --max-tokens 80",
    "rank": "requests.jsonl --bundle sets.bundle --top-k 10",
    "doctor": "--self-test",
    "build": "ranker.bundle --target tensorrt-rtx:sm89 --max-batch-tokens 8192",
    "audit tokens": "ENLARGED --codebook codes.npy --html audit.html",
    "audit membership": "--bundle encoder.bundle --members members.csv --non-members others.csv --max-auc 0.6",
    "loadtest": "--server localhost:8500 --requests judged.jsonl --find-rate --p99 200ms",
}
"""Arguments of an example, by the command that they stand behind."""

_ASKS = (
    "The environment has what a server with tokens or TLS asks for: RANKPORT_TOKEN; RANKPORT_TLS=1 or, for an "
    "authority of its own, the file RANKPORT_TLS_CA."
)


def show_example(command: Any, name: str) -> None:
    """Has the help of a command, or of all of a group, end with its example, and its lines wrapped alike.

    Before it stands, where the command asks a server, what it reads of the environment.
    """
    command.rich_markup_mode = "markdown"
    for below, inner in getattr(command, "commands", {}).items():
        show_example(inner, f"{name} {below}")
    if name in EXAMPLES:
        asks = any("--server" in param.opts for param in command.params)
        command.epilog = f"{_ASKS}\n\n" * asks + f"Example: `rankport {name} {EXAMPLES[name]}`"
