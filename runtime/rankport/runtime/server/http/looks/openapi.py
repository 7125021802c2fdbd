"""Description of the endpoints in OpenAPI's words, made of the forms that read requests; and a page of it."""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pydantic.json_schema import models_json_schema

from rankport.protos.errors import HTTP_STATUSES
from rankport.runtime.server.http.answers import JSON
from rankport.runtime.server.http.call import TIMEOUT_HEADER
from rankport.runtime.server.http.endpoint import Choice
from rankport.runtime.server.http.looks.page import page

_REFERENCE = "#/components/schemas/{model}"
_LOOKS = {
    "/v1/models": "Models that are served",
    "/v1/models/{model}": "One of them, by a name that requests may use",
    "/health": "200 if every model answers, else 503",
    "/health/live": "200 as long as the server runs, all its processes looked after",
    "/metrics": "Metrics in Prometheus' format",
    "/v2": "KServe v2: the server and what it has of the protocol",
    "/v2/health/live": "KServe v2: whether the server runs",
    "/v2/health/ready": "KServe v2: whether every model answers",
    "/v2/models/stats": "KServe v2: counts and times of all models",
    "/v2/models/{model}": "KServe v2: tensors that a model takes and gives; of one version at /versions/{version}",
    "/v2/models/{model}/ready": "KServe v2: whether a model answers",
    "/v2/models/{model}/config": "KServe v2: the same tensors as a configuration of Triton's",
    "/v2/models/{model}/stats": "KServe v2: counts and times of a model",
}


def document(routes: Mapping[str, Sequence[Choice]], version: str) -> dict[str, Any]:
    """Makes the OpenAPI 3.1 document of the endpoints."""
    forms = {choice.dialect.form for choices in routes.values() for choice in choices}
    inputs = [(form, "validation") for form in sorted(forms, key=lambda form: form.__name__)]
    _, schemas = models_json_schema(inputs, ref_template=_REFERENCE)  # type: ignore[arg-type]
    looks = {path: {"get": _look(path, summary)} for path, summary in _LOOKS.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "rankport", "version": version},
        "paths": {path: {"post": _post(path, choices)} for path, choices in routes.items()} | looks,
        "components": {"schemas": schemas["$defs"]},
    }


def documented_page(described: Mapping[str, Any]) -> str:
    """Writes a page of an OpenAPI document: each endpoint with the fields of its requests."""
    parts = [_section(path, item, described) for path, item in described["paths"].items()]
    schemas = '<p>The same for machines: <a href="/openapi.json">openapi.json</a>.</p>'
    return page("Endpoints", schemas + "".join(parts))


def _post(path: str, choices: Sequence[Choice]) -> dict[str, Any]:
    dialects = list({id(choice.dialect): choice.dialect for choice in choices}.values())
    forms = [{"$ref": _REFERENCE.format(model=dialect.form.__name__)} for dialect in dialects]
    schema = forms[0] if len(forms) == 1 else {"anyOf": forms}
    timeout = {
        "name": TIMEOUT_HEADER,
        "in": "header",
        "description": "Seconds after which the work is dropped",
        "schema": {"type": "number", "minimum": 0},
    }
    return {
        **_operation("; ".join(dialect.summary for dialect in dialects)),
        "parameters": [timeout, *_places(path)],
        "requestBody": {"required": True, "content": {JSON: {"schema": schema}}},
    }


def _look(path: str, summary: str) -> dict[str, Any]:
    places = _places(path)
    return {**_operation(summary), **({"parameters": places} if places else {})}


def _places(path: str) -> list[dict[str, Any]]:
    """Describes the names that a path has places for."""
    names = re.findall(r"{(\w+)}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _operation(summary: str) -> dict[str, Any]:
    errors: dict[int, list[str]] = {}
    for error, status in HTTP_STATUSES.items():
        errors.setdefault(status, []).append(error.__name__)
    answers = {str(status): {"description": ", ".join(names)} for status, names in sorted(errors.items())}
    return {"summary": summary, "responses": {"200": {"description": "Answer"}, **answers}}


def _section(path: str, item: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    ((method, operation),) = item.items()
    title = f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}</p>"
    if "requestBody" not in operation:
        return title
    schema = operation["requestBody"]["content"][JSON]["schema"]
    schemas = described["components"]["schemas"]
    first, *inner = _reached(schema, schemas)
    tables = [_table(schemas[first])]
    tables += [f"<p><code>{escape(name)}</code></p>{_table(schemas[name])}" for name in inner]
    return title + "".join(tables)


def _reached(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[str]:
    """Lists the forms that a schema refers to, and those that they refer to, in this order."""
    names: list[str] = []
    pending = [json.dumps(schema)]
    while pending:
        for name in re.findall(r'"#/components/schemas/(\w+)"', pending.pop(0)):
            if name not in names:
                names.append(name)
                pending.append(json.dumps(schemas[name]))
    return names


def _table(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{_said(field)}</td>"
        f"<td>{'required' if name in required else escape(_default(field))}</td></tr>"
        for name, field in schema["properties"].items()
    )
    return f"<div class=wide><table><tr><th>field<th>type<th>default</tr>{rows}</table></div>"


def _default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    return "" if value is None else repr(value) if isinstance(value, str) else str(value).lower()


def _said(field: Mapping[str, Any]) -> str:
    """Says the type of a field in words."""
    if "anyOf" in field:
        return " or ".join(
            dict.fromkeys(_said(each) for each in field["anyOf"] if each.get("type") != "null")
        )
    if "$ref" in field:
        return escape(field["$ref"].rsplit("/", 1)[1])
    if "enum" in field:
        return " or ".join(escape(repr(value)) for value in field["enum"])
    if "const" in field:
        return escape(repr(field["const"]))
    if field.get("type") == "array":
        return f"list of {_said(field['items'])}"
    return escape(str(field.get("type", "any")))
