"""A checkpoint that ends in a head over whole texts as one function: padded token ids -> logits.

Heads of encoders are the class's own forward, but of decoders that read both ways, whose heads answer at the last
token. Of encoder-decoders the decoder is in the graph too: it reads the text again and answers at its end, or makes one
step, whose next token is the answer.
"""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rankport.exporters.kinds.labels.heads import reads_last_token
from rankport.protos.errors import CheckpointError


class HeadModule(nn.Module):
    """(input_ids, attention_mask and, of some, token_type_ids: [items, tokens] int64) -> [items, labels] float32."""

    def __init__(self, model: nn.Module) -> None:
        """Takes over a model of transformers that ends in a classification head."""
        super().__init__()
        self.model = model
        self.pad = padding_token(model)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Computes the logits of padded texts."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        if self.pad is not None:
            input_ids = input_ids.masked_fill(attention_mask == 0, self.pad)
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits
        return logits.to(torch.float32)


class LastTokenModule(nn.Module):
    """(input_ids, attention_mask: [items, tokens] int64, padded at the end) -> [items, labels] float32.

    What a decoder's ...ForSequenceClassification computes of one text: its head at the last token that is not the
    config's pad token. Its own forward takes what pads a text for a part of it, but for that very token.
    """

    def __init__(self, model: nn.Module) -> None:
        """Takes over a model for which `reads_last_token`."""
        super().__init__()
        self.model = model
        self.pad = model.config.get_text_config().pad_token_id  # type: ignore[union-attr, operator]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Computes the logits of padded texts."""
        states: Tensor = self.model.base_model(  # type: ignore[operator]
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False
        ).last_hidden_state
        real = attention_mask if self.pad is None else attention_mask * (input_ids != self.pad)
        places = torch.ones_like(input_ids).cumsum(1) - 1
        last = (places * real).amax(1)  # 0 of a text of padding alone
        read = states.gather(1, last[:, None, None].expand(-1, 1, states.shape[2]))
        logits: Tensor = self.model.score(read[:, 0])  # type: ignore[operator]
        return logits.to(torch.float32)


class ReadAgainModule(nn.Module):
    """(input_ids, attention_mask: [items, tokens] int64, padded at the end) -> [items, labels] float32.

    What BART's and T5's ...ForSequenceClassification compute of a text that ends in the end token: their own forward
    finds it by a mask whose count of tokens a graph cannot know.
    """

    def __init__(self, model: nn.Module) -> None:
        """Takes over an encoder-decoder that ends in a classification head."""
        super().__init__()
        self.model = model
        self.start = None if begins_with_last(model) else decoder_start(model)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Computes the logits of padded texts."""
        last = attention_mask.sum(dim=1, keepdim=True) - 1  # [items, 1]
        stated = self.start
        start = input_ids.gather(1, last) if stated is None else torch.full_like(input_ids[:, :1], stated)
        states: Tensor = self.model.base_model(  # type: ignore[operator]
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=torch.cat([start, input_ids[:, :-1]], dim=1),
            use_cache=False,
        ).last_hidden_state
        ends = states.gather(1, last[:, :, None].expand(-1, -1, states.shape[2]))
        logits: Tensor = self.model.classification_head(ends[:, 0])  # type: ignore[operator]
        return logits.to(torch.float32)


class FirstStepModule(nn.Module):
    """(input_ids, attention_mask: [items, tokens] int64, padded at the end) -> [items, labels] float32.

    Logits of the label tokens as the first that the decoder writes. The forward is the model's own, so that what
    follows the head (scaling) stays its own code; `answering` puts the label rows in the head's place.
    """

    def __init__(self, model: nn.Module, head: nn.Module) -> None:
        """Takes over an encoder-decoder that ends in an LM head, and the label rows of that head."""
        super().__init__()
        self.model, self.head = model, head
        self.start = decoder_start(model)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Computes the logits of padded texts."""
        start = torch.full_like(input_ids[:, :1], self.start)
        logits: Tensor = self.model(
            input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=start, use_cache=False
        ).logits
        return logits[:, 0].to(torch.float32)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Has the model, while open, end in the label rows alone."""
        full = self.model.get_output_embeddings()  # type: ignore[operator]
        self.model.set_output_embeddings(self.head)  # type: ignore[operator]
        try:
            yield
        finally:
            self.model.set_output_embeddings(full)  # type: ignore[operator]


def head_module(model: nn.Module) -> HeadModule | LastTokenModule | ReadAgainModule:
    """Makes the module of a model with a classification head. Raises CheckpointError as `decoder_start`."""
    if reads_last_token(model):
        return LastTokenModule(model)
    return ReadAgainModule(model) if model.config.is_encoder_decoder else HeadModule(model)  # type: ignore[union-attr]


def padding_token(model: nn.Module) -> int | None:
    """Gives the token by which a class of its own finds the end of a text (ModernBERT's decoder); None if none does."""
    if "last_non_pad_token" not in inspect.getsource(type(model).forward):
        return None
    pad = model.config.pad_token_id  # type: ignore[union-attr]
    return pad if isinstance(pad, int) else None


def begins_with_last(model: nn.Module) -> bool:
    """Tells whether the decoder that reads a text again begins with the text's last token, as mBART's and PLBart's.

    They have a `shift_tokens_right` of their own, which asks for no start token; nothing reads one of their config.
    """
    shift = getattr(sys.modules[type(model).__module__], "shift_tokens_right", None)
    return shift is not None and "decoder_start_token_id" not in inspect.signature(shift).parameters


def decoder_start(model: nn.Module) -> int:
    """Gives the token that an encoder-decoder's decoder begins with. Raises CheckpointError if nothing says so."""
    start = getattr(model.config, "decoder_start_token_id", None)
    if not isinstance(start, int):
        raise CheckpointError(
            f"config.json: decoder_start_token_id is {start!r}: {type(model).__name__} begins with it: add it (T5's is "
            "its pad token, 0)"
        )
    return start
