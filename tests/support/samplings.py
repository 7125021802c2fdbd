"""Rules of writing that tests share."""

from rankport.protos.generation import Sampling

ADJUSTED = Sampling(
    max_tokens=10,
    temperature=1.0,
    seed=4,
    presence_penalty=1.5,
    frequency_penalty=-0.5,
    logit_bias={2: 9.0, 40: 4.5},
    min_tokens=3,
    ignore_eos=True,
    logprobs=True,
    top_logprobs=3,
)
"""Every adjustment of logits, with the likeliest tokens told."""
