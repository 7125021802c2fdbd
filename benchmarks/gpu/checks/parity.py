"""The bundle on the device against the reference: every mode on the samples of a proof, then the engine as it serves.

Needs what `reference` wrote; imports no torch.
"""

from benchmarks.gpu.reports.part import Part, arguments
from benchmarks.gpu.workload.expected import load_expected
from benchmarks.gpu.workload.runs import realistic, samples
from rankport.exporters.kinds.ranker.proof.modes import MODES, SampleRequest
from rankport.exporters.proof.compare import Logits, compare
from rankport.protos.errors import RankportError
from rankport.runtime.backends.choice import load_prefix_backend
from rankport.runtime.backends.contract import PrefixBackend
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.tokens import TokenRuns


def main() -> None:
    """Compares; a mode that fails is told and does not keep the others from being measured."""
    part = arguments(__doc__)
    model = part.workload.model
    expected = load_expected(part)
    proven = samples(model)
    served = realistic(model, part.workload.requests)
    assert len(expected) == len(proven) + len(served)
    backend = load_prefix_backend(open_bundle(part.bundle), part.engine)
    part.figures.add("loaded", True)
    _modes(part, backend, proven, expected[: len(proven)])
    _served(part, backend, served, expected[len(proven) :])


def _modes(part: Part, backend: PrefixBackend, requests: list[SampleRequest], expected: list[Logits]) -> None:
    for form in dict.fromkeys(request.form for request in requests):
        places = [place for place, request in enumerate(requests) if request.form == form]
        for mode, run in MODES.items():
            name = f"{mode}/{form}"
            if not part.enough(3, name):
                continue
            try:
                actual = run(backend, [requests[i] for i in places])
                result = compare(name, [expected[i] for i in places], actual)
                part.figures.add(name, result.model_dump(exclude={"mode"}))
            except RankportError as error:
                part.figures.add(name, {"error": f"{type(error).__name__}: {error}"[:500]})


def _served(
    part: Part, backend: PrefixBackend, requests: list[SampleRequest], expected: list[Logits]
) -> None:
    """All queries at once through the engine, which closes the backend; then again, their prefixes cached."""
    engine = Engine(backend, part.engine)
    try:
        for prefixes in ("fresh", "cached"):
            futures = [engine.submit(request.prefix, TokenRuns.of(request.items)) for request in requests]
            actual = [future.result(120).logits for future in futures]
            for form in dict.fromkeys(request.form for request in requests):
                places = [place for place, request in enumerate(requests) if request.form == form]
                name = f"engine, {prefixes} prefixes/{form}"
                result = compare(name, [expected[i] for i in places], [actual[i] for i in places])
                part.figures.add(name, result.model_dump(exclude={"mode"}))
    finally:
        engine.close()


if __name__ == "__main__":
    main()
