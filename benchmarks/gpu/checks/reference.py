"""What transformers answers in fp32, for `parity` to compare with; and how far its own bfloat16 is from that."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.reports.part import arguments
from benchmarks.gpu.workload.expected import save_expected
from benchmarks.gpu.workload.queries import LABEL_IDS
from benchmarks.gpu.workload.runs import realistic, samples
from benchmarks.gpu.workload.torch_model import label_logits, random_model
from rankport.exporters.kinds.ranker.proof.modes import SampleRequest
from rankport.exporters.proof.compare import Logits, compare


def main() -> None:
    """Writes the logits beside the bundles."""
    part = arguments(__doc__)
    model = part.workload.model
    requests = [*samples(model), *realistic(model, part.workload.requests)]
    # No tf32: the reference is fp32.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    exact = random_model(model, part.device, torch.float32)
    expected = _logits(exact, requests)
    save_expected(part, expected)
    spread = float(np.mean([logits[:, 0].std() for logits in expected if len(logits) > 2]))
    part.figures.add("requests", {"count": len(requests), "spread_of_logits": spread})
    del exact
    # Made anew: a conversion would round the rotary frequencies too, as loading does not.
    rounded = _logits(random_model(model, part.device, torch.bfloat16), requests)
    for form in dict.fromkeys(request.form for request in requests):
        places = [place for place, request in enumerate(requests) if request.form == form]
        result = compare(form, [expected[i] for i in places], [rounded[i] for i in places])
        part.figures.add(f"transformers bf16/{form}", result.model_dump(exclude={"mode"}))


def _logits(model: Any, requests: Sequence[SampleRequest]) -> list[Logits]:
    return [label_logits(model, request.prefix, request.items, LABEL_IDS) for request in requests]


if __name__ == "__main__":
    main()
