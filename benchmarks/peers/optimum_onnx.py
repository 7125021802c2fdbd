"""optimum's ONNX model of a classification checkpoint, in an environment of its own: driven by lines of JSON.

    python peers/optimum_onnx.py CHECKPOINT THREADS

Reads {"pairs": [[first, second], …]} or {"texts": […]} with {"sorted": bool} from stdin, writes {"seconds", "logits"}.
Imports nothing of this project: optimum's exporter needs an older transformers than it does.
"""

import importlib.metadata
import json
import sys
import tempfile
import time

import numpy as np

BATCH = 32


def main() -> None:
    """Exports the checkpoint, says so, then answers."""
    import onnxruntime
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    checkpoint, threads = sys.argv[1], int(sys.argv[2])
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        ORTModelForSequenceClassification.from_pretrained(checkpoint, export=True).save_pretrained(folder)
        model = ORTModelForSequenceClassification.from_pretrained(folder, session_options=options)
        packages = ("optimum", "optimum-onnx", "transformers", "onnxruntime")
        versions = {name: importlib.metadata.version(name) for name in packages}
        print(json.dumps({"ready": versions}), flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            started = time.perf_counter()
            logits = answer(model, tokenizer, request)
            seconds = time.perf_counter() - started
            print(json.dumps({"seconds": seconds, "logits": logits.tolist()}), flush=True)


def answer(model: object, tokenizer: object, request: dict) -> np.ndarray:  # type: ignore[type-arg]
    """Computes the logits in batches as they come, or of texts of like length. [texts, labels]"""
    rows = request.get("pairs") or [[text] for text in request["texts"]]
    order = list(range(len(rows)))
    if request["sorted"]:
        order = sorted(order, key=lambda place: sum(map(len, rows[place])))
    logits: list[np.ndarray | None] = [None] * len(rows)
    places = list(order)
    for start in range(0, len(places), BATCH):
        part = places[start : start + BATCH]
        columns = [list(column) for column in zip(*(rows[place] for place in part), strict=True)]
        encoded = tokenizer(*columns, padding=True, truncation=True, return_tensors="np")  # type: ignore[operator]
        for place, row in zip(part, model(**encoded).logits, strict=True):  # type: ignore[operator]
            logits[place] = np.asarray(row)
    return np.stack(logits)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
