"""Messages that are nearly right: requests of every method and bodies of every dialect, some bytes of them changed."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import Message

from rankport.protos.generation import Sampling
from rankport.protos.kserve import kserve_pb2 as kserve
from rankport.protos.messages import class_wire, generate_wire, search_wire, tag_wire, wire
from rankport.protos.types import Key

_V1, _KSERVE = "/rankport.v1.", "/inference.GRPCInferenceService/"


@dataclass(frozen=True, slots=True)
class Sample:
    """A request that is right, and where it is sent."""

    method: str  # of gRPC, or a path of HTTP
    body: bytes


def grpc_samples(width: int) -> list[Sample]:
    """Lists a request of every method and form; `width` is that of embedding tokens."""
    forms = (
        ["nurse", "cook"],
        [[4, 5], [6]],
        np.ones((2, 1, width), np.float16),
        [Key("a"), Key("b", "text")],
        ["nurse", [4], Key("a"), np.ones((1, width), np.float32)],
    )
    samples: list[tuple[str, Message]] = [
        (f"{_V1}Scoring/Score", wire.score_request("ranker", {"query": "q"}, items, "error", "skip"))
        for items in forms
    ]
    samples += [
        (f"{_V1}Scoring/Score", wire.score_request("ranker", [4, 5], ["nurse"], "truncate", "fail")),
        (f"{_V1}Embedding/Encode", wire.encode_request("encoder", ["nurse", [4]], "error")),
        (f"{_V1}Embedding/Lookup", wire.lookup_request("ranker", ["a", "b"])),
        (
            f"{_V1}Classification/Classify",
            class_wire.classify_request("", [("a", "b"), ("c", "d")], None, "error"),
        ),
        (f"{_V1}Tagging/Tag", tag_wire.tag_request("", [["New", "York"], ["x"]], "windows", 3)),
        (
            f"{_V1}Generation/Generate",
            generate_wire.generate_request("", "a", Sampling(max_tokens=3), "error"),
        ),
        (
            f"{_V1}Generation/Generate",
            generate_wire.generate_request("", "a", Sampling(json_schema={"type": "string"}), "error"),
        ),
        (f"{_V1}Generation/Search", search_wire.search_request("", "a", "movies", 8, 3, "error")),
        (
            f"{_KSERVE}ModelInfer",
            _infer(prefix=("BYTES", _text("q")), items=("BYTES", _text("a") + _text("b"))),
        ),
        (f"{_KSERVE}ModelMetadata", kserve.ModelMetadataRequest(name="ranker")),
        (f"{_KSERVE}ModelStatistics", kserve.ModelStatisticsRequest(name="ranker")),
    ]
    return [Sample(method, message.SerializeToString()) for method, message in samples]


def http_samples() -> list[Sample]:
    """Lists a body of every dialect."""
    texts, query = ["hospital nurse", "cook"], "nurse"
    bodies: dict[str, object] = {
        "/v2/rerank": {"model": "ranker", "query": query, "documents": texts, "top_n": 1},
        "/v1/rerank": {"model": "ranker", "query": query, "documents": texts},
        "/rerank": {"query": query, "texts": texts, "raw_scores": True},
        "/v1/ranking": {"query": {"text": query}, "passages": [{"text": text} for text in texts]},
        "/score": {"text_1": query, "text_2": texts},
    }
    return [Sample(path, json.dumps(body).encode()) for path, body in bodies.items()]


def changed(body: bytes, draw: random.Random) -> bytes:
    """Changes, drops, adds or repeats some bytes, or none."""
    changing = bytearray(body)
    for _ in range(draw.choice((0, 1, 1, 2, 3, 6))):
        changing = changing or bytearray(1)
        at = draw.randrange(len(changing))
        draw.choice(_CHANGES)(changing, at, draw)
    return bytes(changing)


def _replace(changing: bytearray, at: int, draw: random.Random) -> None:
    changing[at] = draw.choice((0, 1, 2, 127, 128, 255, draw.randrange(256)))


def _drop(changing: bytearray, at: int, draw: random.Random) -> None:
    del changing[at : at + draw.choice((1, 1, 4, 16))]


def _add(changing: bytearray, at: int, draw: random.Random) -> None:
    changing[at:at] = bytes(
        draw.choice((0, 255, draw.randrange(256))) for _ in range(draw.choice((1, 2, 10)))
    )


def _repeat(changing: bytearray, at: int, draw: random.Random) -> None:
    begin = draw.randrange(len(changing))
    changing[at:at] = changing[begin : begin + draw.randrange(1, 40)]


_CHANGES: Sequence[Callable[[bytearray, int, random.Random], None]] = (
    _replace,
    _replace,
    _drop,
    _add,
    _repeat,
)


def _text(text: str) -> bytes:
    return len(text).to_bytes(4, "little") + text.encode()


def _infer(**inputs: tuple[str, bytes]) -> kserve.ModelInferRequest:
    request = kserve.ModelInferRequest(model_name="ranker")
    for name, (datatype, content) in inputs.items():
        count = 1 if name == "prefix" else 2
        request.inputs.add(name=name, datatype=datatype, shape=[count])
        request.raw_input_contents.append(content)
    return request
