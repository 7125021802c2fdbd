"""KServe v2 over HTTP: tensors as JSON and behind it are those of the gRPC service, and bad ones are told by name."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from rankport.protos.types import Key
from support.servers.http import Answer, ask
from support.servers.serving import HTTP, Serving, serving
from support.servers.supervised import eventually

INFER = "/v2/models/ranker/infer"
PREFIX = {"name": "prefix", "shape": [1], "datatype": "BYTES", "data": ["nurse"]}
ROWS = [[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]


def tensor(name: str, datatype: str, shape: list[int], data: Any = None, **parameters: Any) -> dict[str, Any]:
    given = {"name": name, "datatype": datatype, "shape": shape} | ({} if data is None else {"data": data})
    return given | ({"parameters": parameters} if parameters else {})


def body(*inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"inputs": [PREFIX, *inputs], **more}


def outputs(reply: Any) -> dict[str, Any]:
    return {output["name"]: output for output in reply["outputs"]}


def infer_raw(address: str, given: object, *contents: bytes, length: str = "") -> Answer:
    head = json.dumps(given).encode()
    headers = {
        "inference-header-content-length": length or str(len(head)),
        "content-type": "application/octet-stream",
    }
    return ask(address, INFER, raw=head + b"".join(contents), headers=headers)


@pytest.mark.parametrize(
    ("given", "items"),
    [
        (tensor("items", "BYTES", [3], ["a", "bé", ""]), ["a", "bé", ""]),
        (tensor("item_keys", "BYTES", [2], ["k", "k"]), [Key("k"), Key("k")]),
        (tensor("item_embeddings", "FP32", [2, 1, 3], ROWS), np.array(ROWS, np.float32)),
        (tensor("item_embeddings", "FP16", [2, 1, 3], [1, 2, 3, 4, 5, 6]), np.array(ROWS, np.float16)),
        (tensor("items", "BYTES", [0], []), []),
    ],
    ids=["texts", "keys", "rows", "flat", "none"],
)
def test_scores_are_those_of_the_ranker(served: Serving, address: str, given: Any, items: Any) -> None:
    expected = served.ranker.score("nurse", items)
    answer = ask(address, INFER, body(given, id="7", model_name="ranker"))
    assert answer.status == 200, answer.text
    reply = answer.json
    assert (reply["model_name"], reply["model_version"], reply["id"]) == ("ranker", "1", "7")
    assert reply["parameters"]["score_kind"] == "logit"
    told = outputs(reply)
    assert told["scores"] == {
        "name": "scores",
        "datatype": "FP32",
        "shape": [len(items)],
        "data": expected.scores.tolist(),
    }
    assert (told["logits"]["shape"], told["logits"]["data"]) == (
        [len(items), 2],
        expected.logits.ravel().tolist(),
    )
    assert told["status"]["data"] == [*expected.status]


def test_tensors_travel_behind_the_json_both_ways(served: Serving, address: str) -> None:
    rows = np.array(ROWS, "<f2")
    text = struct.pack("<I", 5) + b"nurse"
    given = {
        "inputs": [
            tensor("item_embeddings", "FP16", [2, 1, 3], binary_data_size=rows.nbytes),
            tensor("prefix", "BYTES", [1], binary_data_size=len(text)),
        ],
        "outputs": [
            {"name": "status"},
            {"name": "logits", "parameters": {"binary_data": False}},
            {"name": "scores"},
        ],
        "parameters": {"binary_data_output": True},
    }
    head = json.dumps(given).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    expected = served.ranker.score("nurse", rows)
    answer = ask(address, INFER, raw=head + rows.tobytes() + text, headers=headers, latin=True)
    assert answer.headers["content-type"] == "application/octet-stream"
    content, length = answer.text.encode("latin-1"), int(answer.headers["inference-header-content-length"])
    told, behind = outputs(json.loads(content[:length])), content[length:]
    size = told["status"]["parameters"]["binary_data_size"]
    assert behind[:size] == (struct.pack("<I", 2) + b"ok") * 2
    assert behind[size:] == expected.scores.tobytes()
    assert told["scores"]["parameters"] == {"binary_data_size": 8}
    assert told["logits"]["data"] == expected.logits.ravel().tolist()


def test_encoders_parameters_and_versions_are_honoured(served: Serving, address: str) -> None:
    given = {
        "inputs": [tensor("texts", "BYTES", [2], ["a", "bc"])],
        "parameters": {"side": "query"},
    }
    told = outputs(ask(address, "/v2/models/encoder/versions/1/infer", given).json)
    expected = served.encoder.encode(["a", "bc"], side="query")
    assert told["embeddings"]["datatype"] == "FP16"
    np.testing.assert_array_equal(
        np.array(told["embeddings"]["data"], np.float16).reshape(told["embeddings"]["shape"]), expected
    )


def test_a_score_that_is_none_is_null(address: str) -> None:
    told = outputs(ask(address, INFER, body(tensor("item_keys", "BYTES", [2], ["k", "missing"]))).json)
    assert (told["scores"]["data"][1], told["status"]["data"]) == (None, ["ok", "not_found"])


@pytest.mark.parametrize(
    ("path", "given", "says"),
    [
        (INFER, body(), "give one of them, none is given"),
        (
            INFER,
            body(tensor("items", "BYTES", [2], ["a"])),
            "'items' has 1 value; its shape [2] says otherwise",
        ),
        (INFER, body(tensor("items", "BYTES", [1], [3])), "'items': value 0 is 3; BYTES takes texts"),
        (INFER, body(tensor("items", "BYTES", [1])), "'items' has no data: give it, or binary_data_size"),
        (INFER, body(tensor("items", "BYTES", [-1], [])), "inputs[1].shape[0] is -1"),
        (INFER, body(tensor("items", "INT64", [1], [1])), "'items' is 'INT64'; give BYTES"),
        (INFER, body(tensor("items", "FP64", [1], [1])), "'items' is 'FP64'; give BYTES"),
        (
            INFER,
            body(tensor("items", "BYTES", [1], ["a"], binary_data_size=1)),
            "has data and binary_data_size",
        ),
        (
            INFER,
            body(tensor("items", "BYTES", [1], binary_data_size=1)),
            "size is 1, and behind the JSON are 0 bytes",
        ),
        (
            INFER,
            body(tensor("items", "BYTES", [1], ["a"], other=1)),
            "'items': parameter 'other' is not taken",
        ),
        (
            INFER,
            body(tensor("item_embeddings", "FP32", [2, 1, 3], [[[1, 2, 3]], [[1, 2]]])),
            "data is not in rows",
        ),
        (INFER, body(tensor("item_embeddings", "FP32", [1, 1, 3], [[1, 2, 3]])), "data is not in rows"),
        (
            INFER,
            body(tensor("item_embeddings", "FP32", [1, 1, 3], [1, True, 3])),
            "value 1 is True; FP32 takes numbers",
        ),
        (
            INFER,
            body(tensor("item_embeddings", "FP32", [1, 1, 3], [1, 1e39, 3])),
            "a number that FP32 has not",
        ),
        (INFER, body(tensor("items", "BYTES", [1], ["a"]), parameters={"x": 1}), "parameter 'x' is unknown"),
        (
            INFER,
            body(outputs=[{"name": "scores", "parameters": {"classification": 2}}]),
            "'classification' is not taken",
        ),
        (
            INFER,
            body(outputs=[{"name": "scores", "parameters": {"binary_data": 1}}]),
            "'binary_data' is 1: give true or",
        ),
        (INFER, body(model_name="encoder"), "model_name is 'encoder', and the path names 'ranker'"),
        (INFER, body(sequence=3), "sequence is no field of this request"),
        ("/v2/models/ranker/versions/9/infer", body(), "has version '1', not '9'"),
        ("/v2/models/org/other/infer", body(), "no model is named 'org/other'"),
    ],
)
def test_what_is_wrong_is_told_by_name(address: str, path: str, given: Any, says: str) -> None:
    answer = ask(address, path, given)
    assert answer.status == (404 if says.startswith(("has version", "no model")) else 400)
    assert says in answer.json["error"]


@pytest.mark.parametrize(
    ("length", "behind", "says"),
    [
        ("x", b"", "inference-header-content-length is 'x': give the bytes of the JSON"),
        ("99999", b"", "is 99999, and the body has"),
        ("", b"abc", "3 bytes of the body are of no input: say binary_data_size"),
    ],
)
def test_a_length_of_json_that_is_none_is_told(address: str, length: str, behind: bytes, says: str) -> None:
    answer = infer_raw(address, body(tensor("items", "BYTES", [1], ["a"])), behind, length=length)
    assert (answer.status, says in answer.json["error"]) == (400, True)


def test_tensors_may_have_any_bytes_and_other_paths_take_none(address: str) -> None:
    items = 100_000
    raw = b'\x02\x00\x00\x00",' * items  # as many texts and values as no JSON may have
    given = body(tensor("items", "BYTES", [items], binary_data_size=len(raw)), outputs=[{"name": "status"}])
    answer = infer_raw(address, given, raw)
    assert (answer.status, outputs(answer.json)["status"]["shape"]) == (200, [items])
    octets = {"content-type": "application/octet-stream", "inference-header-content-length": "2"}
    assert ask(address, "/rerank", raw=b"{}", headers=octets).status == 400


def test_looks_tell_what_the_grpc_service_tells(served: Serving, address: str) -> None:
    def look(path: str) -> Any:
        answer = ask(address, path)
        return answer.json if answer.status == 200 else (answer.status, answer.json["error"])

    assert (look("/v2")["name"], "binary_tensor_data" in look("/v2")["extensions"]) == ("rankport", True)
    assert look("/v2/health/live") == {"live": True}
    assert look("/v2/health/ready") == {"ready": True}
    assert look("/v2/models") == {"models": ["encoder", "ranker"]}
    for name in ("ranker", "ranker/versions/1"):
        assert look(f"/v2/models/{name}/ready")["ready"]
        assert look(f"/v2/models/{name}")["outputs"][1] == {
            "name": "logits",
            "datatype": "FP32",
            "shape": [-1, 2],
        }
        assert look(f"/v2/models/{name}/config")["input"][2] == {
            "name": "items",
            "data_type": "TYPE_STRING",
            "dims": [-1],
            "optional": True,
        }
    (before,) = look("/v2/models/ranker/stats")["model_stats"]
    assert ask(address, INFER, body(tensor("items", "BYTES", [1], ["a"]))).status == 200
    (after,) = look("/v2/models/ranker/stats")["model_stats"]
    assert after["inference_count"] - before["inference_count"] == 1
    assert (
        after["inference_stats"]["compute_infer"]["ns"] - before["inference_stats"]["compute_infer"]["ns"]
        == 75e7
    )
    assert [each["name"] for each in look("/v2/models/stats")["model_stats"]] == ["encoder", "ranker"]
    assert look("/v2/models/none/ready") == (404, "no model is named 'none'; this server has encoder, ranker")


def test_a_model_that_cannot_take_requests_is_not_ready() -> None:
    with serving(HTTP) as served:
        address = served.server.http_address
        served.ranker.worker.alive = False
        eventually(lambda: ask(address, "/v2/health/ready").json == {"ready": False})
        assert ask(address, "/v2/models/ranker/ready").status == 503
        assert ask(address, "/v2/models/encoder/ready").json == {"name": "encoder", "ready": True}
