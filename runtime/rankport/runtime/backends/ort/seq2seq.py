"""Encoder-decoders on the CPU: a session that reads texts, and one that puts a token behind each answer to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.layouts.padded import pad
from rankport.runtime.backends.ort.host_kv import Array, HostKV
from rankport.runtime.backends.ort.sequences import HostSequence, SequencePool
from rankport.runtime.backends.ort.session import Session
from rankport.runtime.backends.write_contract import AnswerKV
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import TokenRuns


@dataclass(frozen=True, slots=True, eq=False)
class HostAnswers:
    """A text and its answers. Implements `AnswerKV`."""

    source: HostSequence
    beams: tuple[HostSequence, ...]

    @property
    def length(self) -> int:
        """Tokens of each answer so far."""
        return self.beams[0].length


class OnnxRuntimeSeq2SeqBackend:
    """The `encode` and `decode` graphs of a bundle on the CPU. Implements `Seq2SeqBackend`."""

    def __init__(self, bundle: Bundle, config: EngineConfig | None = None) -> None:
        """Loads both graphs. Raises `BundleError` if one cannot be loaded."""
        layers = bundle.manifest.shape.layers
        self._encode = Session(bundle, "encode", config or EngineConfig())
        self._decode = Session(bundle, "decode", config or EngineConfig())
        self._sources = SequencePool(layers, "source")
        self._answers = SequencePool(layers)

    def encode(self, texts: TokenRuns, beams: Sequence[int]) -> list[HostAnswers]:
        """See `Seq2SeqBackend.encode`. Texts are padded to the longest."""
        padded = pad(texts)
        count, longest = padded.ids.shape
        inputs = padded.inputs(count, longest, self._encode.input_names)
        layers = self._encode.run({name: value.array() for name, value in inputs.items()})
        lengths = padded.lengths.tolist()
        return [
            self._begin(HostKV(tuple(layer[place : place + 1, :, :length] for layer in layers)), width)
            for place, (length, width) in enumerate(zip(lengths, beams, strict=True))
        ]

    def decode(self, answers: Sequence[AnswerKV], tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Seq2SeqBackend.decode`."""
        given = cast(Sequence[HostAnswers], answers)
        order = np.argsort([text.beams[0].row for text in given])
        texts = [given[place] for place in order]
        sequences = [sequence for text in texts for sequence in text.beams]
        inputs: dict[str, Array] = {
            "input_ids": tokens[order],
            "past_lengths": np.array([text.length for text in texts], np.int64),
            "source_lengths": np.array([text.source.length for text in texts], np.int64),
            **self._sources.past([text.source for text in texts], cut=True),
        }
        for name, past in self._answers.past(sequences, cut=True).items():
            inputs[name] = past.reshape(len(texts), -1, *past.shape[1:])
        by_row, *new = self._decode.run(inputs)
        self._answers.append(sequences, [states.reshape(-1, *states.shape[2:])[:, :, None] for states in new])
        logits = np.empty_like(by_row)
        logits[order] = by_row
        return logits

    def reorder(self, answers: AnswerKV, parents: NDArray[np.int64]) -> None:
        """See `Seq2SeqBackend.reorder`."""
        assert isinstance(answers, HostAnswers)
        self._answers.reorder(answers.beams, parents)

    def end(self, answers: AnswerKV) -> None:
        """See `Seq2SeqBackend.end`."""
        assert isinstance(answers, HostAnswers)
        self._sources.end(answers.source)
        for sequence in reversed(answers.beams):  # so that others keep their order in the rows
            self._answers.end(sequence)

    def close(self) -> None:
        """Frees the sessions."""
        self._encode.close()
        self._decode.close()

    def _begin(self, source: HostKV, beams: int) -> HostAnswers:
        return HostAnswers(
            self._sources.begin([source]), tuple(self._answers.begin(()) for _ in range(beams))
        )
