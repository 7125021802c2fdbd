"""`rankport generate`."""

import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from rankport.protos.arguments import is_chat
from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import GeneratedPart, GenerateResult, Sampling
from rankport.protos.types import Prefix, Truncation
from rankport.runtime.config import Device, EngineConfig, engine_config
from rankport.sdk.cli.flags.dataclass_options import flags_of, takes
from rankport.sdk.cli.flags.lines import json_of, lines_of, text_of
from rankport.sdk.cli.flags.model import opened_model, refuse_device
from rankport.sdk.cli.flags.priority import PriorityFlag
from rankport.sdk.cli.output.results.found import search, write_found
from rankport.sdk.cli.output.writing import as_shown, writing


class _Text(Protocol):
    def __iter__(self) -> Iterator[GeneratedPart]: ...

    def result(self) -> GenerateResult: ...

    def close(self) -> None: ...


class _Writes(Protocol):
    """A generator, in process or at a server."""

    def stream(
        self,
        prompt: Prefix,
        sampling: Sampling = ...,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> _Text: ...


@takes(*flags_of(EngineConfig, only=("device",)))
def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="The prompt's only field; - for stdin, but for its last line end.")
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", metavar="NAME=TEXT", help="A field of the prompt; again for each."),
    ] = None,
    messages: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='A chat, of a bundle that takes one: a JSON list [{"role": "user", "content": "Hello"}, ...]; - for '
            "stdin.",
        ),
    ] = None,
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Write at this server ...")] = None,
    bundle: Annotated[Path | None, typer.Option(help="... or with this bundle, in process.")] = None,
    model: Annotated[str, typer.Option(help="Which of the server's models, if it has several.")] = "",
    max_tokens: Annotated[
        int | None, typer.Option(help="Tokens at most. [default: as many as the bundle allows]")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="0 takes the likeliest token, always. [default: what the bundle says]"),
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Of the likeliest tokens that have this probability together.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Of so many likeliest tokens; 0: of all.")] = None,
    min_p: Annotated[
        float | None,
        typer.Option(help="Of tokens at least this many times as probable as the likeliest; 0: of all."),
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1: less of what was there before.")
    ] = None,
    presence_penalty: Annotated[
        float | None, typer.Option(help="Taken off the logit of each token that the text has, -2 to 2.")
    ] = None,
    frequency_penalty: Annotated[
        float | None, typer.Option(help="The same, as often as the text has the token.")
    ] = None,
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(metavar="TOKEN=BIAS", help="Added to the logit of a token, by its id; again for more."),
    ] = None,
    min_tokens: Annotated[int | None, typer.Option(help="Tokens before the text may end.")] = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Go on behind what ends a text by its bundle's word.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Same seed, same text.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Ends before this text; again for more.")
    ] = None,
    beams: Annotated[
        int | None,
        typer.Option(
            help="Of an encoder-decoder: how many of the likeliest texts to find, a line each. With --trie: sequences "
            "that are followed at a time. [default: 32]"
        ),
    ] = None,
    trie: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Find the items of this trie whose sequences are likeliest, --top-k of them: a folder, at a server "
            "the name of one that it has.",
        ),
    ] = None,
    json_schema: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The text must be JSON by the schema in this file.")
    ] = None,
    regex: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="The text must match this pattern as a whole.")
    ] = None,
    logprobs: Annotated[
        int | None,
        typer.Option(
            help="With --json: log-probabilities of the tokens, and of so many likeliest beside each."
        ),
    ] = None,
    timeout_s: Annotated[float | None, typer.Option(help="Give up after this many seconds.")] = None,
    priority: PriorityFlag = "interactive",
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON object: text, token_ids, finish_reason, usage, logprobs if asked."
        ),
    ] = False,
    **given: Any,
) -> None:
    """Write text behind a prompt, as it comes.

    Exit codes: 0 written; 2 what was asked is wrong; 1 anything else.
    """
    asked = _prompt(prompt, fields or [], messages)
    device: Device = given["device"]
    refuse_device(server, device)
    load = partial(_load, device)
    if trie is not None:
        _refuse_beside_trie(
            (max_tokens, temperature, top_p, min_p, repetition_penalty, seed, stop, json_schema, regex),
            (presence_penalty, frequency_penalty, logit_bias, min_tokens, ignore_eos or None, logprobs),
        )
        with opened_model(server, model, bundle, load, priority=priority) as generator:
            write_found(search(generator, asked, trie, beams, top_k, timeout_s), as_json)
        return
    if logprobs is not None and not as_json:
        raise typer.BadParameter("--logprobs is told with --json: add it")
    sampling = Sampling(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        logit_bias=_biases(logit_bias or []),
        min_tokens=min_tokens,
        ignore_eos=ignore_eos,
        logprobs=logprobs is not None,
        top_logprobs=logprobs or 0,
        seed=seed,
        stop=tuple(stop or ()),
        beams=beams,
        json_schema=None if json_schema is None else "".join(lines_of(str(json_schema), "--json-schema")),
        regex=regex,
    )
    with opened_model(server, model, bundle, load, priority=priority) as generator:
        text = generator.stream(asked, sampling, timeout_s)
        try:
            for part in text:
                if not as_json:
                    _say(part.text, nl=False)
            result = text.result()
        finally:
            text.close()
    if as_json:
        _say(json.dumps(_told(result), ensure_ascii=False))
        return
    _say()
    for beam in result.beams[1:]:
        _say(beam.text)


def _say(text: str = "", *, nl: bool = True) -> None:
    with writing("standard output"):
        typer.echo(as_shown(text, sys.stdout), nl=nl)  # a model may write anything


def _refuse_beside_trie(*given: tuple[object, ...]) -> None:
    if any(value is not None for values in given for value in values):
        raise typer.BadParameter(
            "with --trie there are --beams and --top-k; the other flags say how text is written"
        )


def _prompt(prompt: str | None, fields: list[str], messages: str | None) -> Prefix:
    if [prompt is not None, bool(fields), messages is not None].count(True) != 1:
        raise typer.BadParameter(
            "give either a prompt, its fields, --field NAME=TEXT, or a chat, --messages FILE"
        )
    if messages is not None:
        said = json_of("".join(lines_of(messages, "--messages")), f"--messages {messages}")
        if not is_chat(said):
            raise InvalidRequest(
                f"--messages {messages}: give a list of messages, of which one is there at least"
            )
        return said
    if prompt == "-":
        return text_of(prompt, "the prompt of")
    if prompt is not None:
        return prompt
    values: dict[str, str] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        if not equals or not name or name in values:
            raise InvalidRequest(f"--field {field!r:.60}: give NAME=TEXT, each name once")
        values[name] = value
    return values


def _biases(given: list[str]) -> dict[int, float]:
    biases: dict[int, float] = {}
    for pair in given:
        token, _, bias = pair.partition("=")
        try:
            biases[int(token)] = float(bias)
        except ValueError:
            raise InvalidRequest(f"--logit-bias {pair!r:.60}: give TOKEN=BIAS, an id and a number") from None
    if len(biases) < len(given):
        raise InvalidRequest("--logit-bias has a token twice: give each once")
    return biases


def _told(result: GenerateResult) -> dict[str, object]:
    return {
        "text": result.text,
        "token_ids": list(result.token_ids),
        "finish_reason": result.finish_reason,
        "usage": asdict(result.usage),
        **({} if result.logprobs is None else {"logprobs": result.logprobs.tolist()}),
        **(
            {"top_logprobs": [[asdict(each) for each in place] for place in result.top_logprobs]}
            if result.top_logprobs
            else {}
        ),
        **({"beams": [asdict(beam) for beam in result.beams]} if result.beams else {}),
    }


def _load(device: Device, bundle: Path) -> AbstractContextManager[_Writes]:
    from rankport.runtime.kinds.generator.generator import Generator

    return Generator.load(bundle, config=engine_config(device))
