"""Texts read once and answers a token at a time give the logits of the class's own forward, whatever shares a pass."""

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from rankport.exporters.kinds.seq2seq.families import family_of
from rankport.exporters.kinds.seq2seq.module import SourceModule, StepModule
from rankport.protos.errors import CheckpointError

VOCABULARY, STEPS, ROOM = 50, 9, 12
T5 = {"d_model": 32, "d_ff": 48, "d_kv": 6, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
BART = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 16,
}
# Few buckets over few tokens: those of tokens far apart are shared, and the last one is reached.
NEAR = {"relative_attention_num_buckets": 6, "relative_attention_max_distance": 7}
MODELS = {
    "t5": ("T5", T5),
    "t5-few-buckets": ("T5", T5 | NEAR),
    "t5-gated-untied": ("T5", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "t5-deeper-decoder": ("T5", T5 | {"num_decoder_layers": 3}),
    "mt5": ("MT5", T5),
    "bart": ("Bart", BART),
    "bart-scaled": ("Bart", BART | {"scale_embedding": True, "activation_function": "relu"}),
}


def model_of(name: str) -> nn.Module:
    family, config = MODELS[name]
    torch.manual_seed(0)
    cls: Any = getattr(transformers, f"{family}ForConditionalGeneration")
    config = getattr(transformers, f"{family}Config")(vocab_size=VOCABULARY, **config)
    model: nn.Module = cls._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for values in (*model.parameters(), *model.buffers()):
            values.add_(torch.randn_like(values) * 0.2)
    return model


def decoded(model: nn.Module, ids: Tensor, mask: Tensor, fed: Tensor) -> Tensor:
    """Decodes [texts, beams, steps] tokens behind texts, the second text three tokens behind the first."""
    family = family_of(model)
    source, step = SourceModule(family)(ids, mask), StepModule(family)
    texts, beams, steps = fed.shape
    shape = (texts, beams, family.heads, ROOM, family.head_dim)
    past = [torch.full(shape, 7.0) for _ in source]  # what is beyond a length is never looked at
    logits = torch.zeros(texts, beams, steps, VOCABULARY)
    for turn in range(steps + 3):
        at = torch.tensor([min(turn, steps - 1), min(max(turn - 3, 0), steps - 1)])
        tokens = torch.stack([fed[text, :, at[text]] for text in range(texts)])
        out, *new = step(tokens, at, mask.sum(1), past, source)
        for text in range(texts):
            logits[text, :, at[text]] = out[text]
            for kept, states in zip(past, new, strict=True):
                kept[text, :, :, at[text]] = states[text]
    return logits


@pytest.mark.parametrize("name", MODELS)
def test_each_token_has_the_logits_of_the_whole_forward(name: str) -> None:
    model = model_of(name)
    ids = torch.randint(3, VOCABULARY, (2, 7))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    fed = torch.randint(3, VOCABULARY, (2, 2, STEPS))
    with torch.no_grad():
        actual = decoded(model, ids, mask, fed)
        for beam in range(2):
            expected = model(
                input_ids=ids, attention_mask=mask, decoder_input_ids=fed[:, beam], use_cache=False
            ).logits
            torch.testing.assert_close(actual[:, beam], expected, rtol=1e-4, atol=1e-4)


def test_other_families_are_refused_by_name() -> None:
    config = transformers.PegasusConfig(vocab_size=8, d_model=8, encoder_layers=1, decoder_layers=1)
    config.encoder_attention_heads = config.decoder_attention_heads = 2
    with pytest.raises(
        CheckpointError,
        match=r"PegasusForConditionalGeneration is not exported .* takes T5ForConditionalGeneration, MT5",
    ):
        family_of(transformers.PegasusForConditionalGeneration(config))
