"""onnxruntime-genai's model of a decoder, in an environment of its own: driven by lines of JSON.

    python peers/genai.py CHECKPOINT FOLDER PRECISION THREADS

Builds FOLDER with its own model builder where it is missing. Reads {"prompts": [[id, …]], "tokens": N} from stdin, all
prompts of one length, writes {"seconds", "ids": [[id, …]]}. Imports nothing of this project.
"""

import importlib.metadata
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Builds what is missing, says so, then answers."""
    checkpoint, folder, precision, threads = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    if not (folder / "genai_config.json").exists():
        build(checkpoint, folder, precision)
    limit_threads(folder / "genai_config.json", threads)
    import onnxruntime_genai as og

    model = og.Model(str(folder))
    packages = ("onnxruntime-genai", "onnxruntime")
    print(json.dumps({"ready": {name: importlib.metadata.version(name) for name in packages}}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        ids = answer(og, model, request["prompts"], request["tokens"])
        print(json.dumps({"seconds": time.perf_counter() - started, "ids": ids}), flush=True)


def build(checkpoint: str, folder: Path, precision: str) -> None:
    """Builds the model as its command line does, in int4 with activations of 8 bits, as ours."""
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", checkpoint, "-o", str(folder)]
    command += ["-p", precision, "-e", "cpu", "-c", str(folder.parent / "cache")]
    if precision == "int4":
        command += ["--extra_options", "int4_accuracy_level=4"]
    subprocess.run(command, check=True, stdout=sys.stderr)


def limit_threads(config: Path, threads: int) -> None:
    """Has the sessions use so many threads."""
    content = json.loads(config.read_text())
    content["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    config.write_text(json.dumps(content, indent=2))


def answer(og: Any, model: Any, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """Writes so many tokens greedily behind each prompt, whichever they are."""
    params = og.GeneratorParams(model)
    length = len(prompts[0]) + tokens
    params.set_search_options(
        do_sample=False,
        max_length=length,
        min_length=length,
        batch_size=len(prompts),
        past_present_share_buffer=True,
    )
    generator = og.Generator(model, params)
    generator.append_tokens(prompts if len(prompts) > 1 else prompts[0])
    for _ in range(tokens):
        generator.generate_next_token()
    return [generator.get_sequence(row).tolist()[len(prompts[0]) :] for row in range(len(prompts))]


if __name__ == "__main__":
    main()
