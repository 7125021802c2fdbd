"""The first lines of the commands' helps: what the list of them shows, which so imports none.

A completion by a shell, which lists them too, is at once there.
"""

from collections.abc import Mapping

FIRST_LINES: Mapping[str, str] = {
    "export": "Turn a checkpoint into a bundle that is proven equal to it, or leave nothing and exit 1.",
    "verify": "Prove a bundle again: against its checkpoint in every mode, and on judged requests. Exit 1 if it fails.",
    "inspect": "Show what a bundle is, what was measured of it, and its plans. "
    "Every file's hash is checked on the way.",
    "ground": "Ground the new rows of a vocabulary in paired text: everything else of the model stays as it is.",
    "encode": "Compute the embedding tokens of a catalogue and keep them for serving.",
    "nearline": "Keep the tokens of a store fresh: encode changes of items as they come in a stream of Redis.",
    "store": "Look into token stores, compare, copy, compact and clean them.",
    "serve": "Serve rankers and item encoders over gRPC, with health and reflection on the same port.",
    "models": "Load, unload and switch the models of a running server.",
    "jobs": "Have a running server encode catalogues: its own encoder, behind its requests, kept over a restart.",
    "token": "Make tokens for the clients of a server.",
    "trie": "Make tries of semantic IDs for a generator.",
    "score": "Score items against a prefix and print them best first: rank, item or key, score, status.",
    "tag": "Find labelled spans in texts: where each begins and ends in characters, its label, its score, its text.",
    "classify": "Tell the labels of texts, or of pairs, in their order: label, probability, text, status.",
    "generate": "Write text behind a prompt, as it comes.",
    "rank": "Rank sets of candidates, each together, behind a history: one JSON object a line, best first.",
    "doctor": "Show what this machine has (driver, GPU, libraries), which targets it can build and run, "
    "what to install.",
    "build": "Build TensorRT plans from a bundle's graphs, into the bundle. "
    "What is there and still fits is left alone.",
    "audit": "Check what was trained before it is released.",
    "loadtest": "Load a server and tell what its users would have waited.",
}
