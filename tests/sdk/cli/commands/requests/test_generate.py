"""`rankport generate`: one text as it comes, or all that beams find."""

import json

from rankport.protos.generation import Sampling
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from support.cli import rankport

ASKED = ("generate", "red shoes", "--max-tokens", "6")


def test_beams_are_a_line_each_the_likeliest_first(seq2seq_bundle: Bundle) -> None:
    with Generator.load(seq2seq_bundle, config=EngineConfig(threads=1)) as generator:
        one = generator.generate("red shoes", Sampling(max_tokens=6))
        found = generator.generate("red shoes", Sampling(max_tokens=6, beams=3)).beams
    bundle = ("--bundle", str(seq2seq_bundle.path))
    assert rankport(*ASKED, *bundle).stdout == f"{one.text}\n"
    lines = rankport(*ASKED, *bundle, "--beams", "3").stdout
    assert lines == "".join(f"{beam.text}\n" for beam in found)
    told = json.loads(rankport(*ASKED, *bundle, "--beams", "3", "--json").stdout)
    assert [beam["score"] for beam in told["beams"]] == [beam.score for beam in found]
    assert (told["text"], told["token_ids"]) == (found[0].text, list(found[0].token_ids))


def test_a_device_is_one_of_a_bundle_that_has_graphs_for_it(generator_bundle: Bundle) -> None:
    asked = ("generate", "red shoes", "--device", "tensorrt")
    told = rankport(*asked, "--bundle", generator_bundle.path)
    assert told.returncode == 2
    assert "writes text, which device tensorrt does not yet: take --device cpu or cuda" in told.stderr
    told = rankport(*asked, "--server", "localhost:1")
    assert told.returncode == 2
    assert "--device goes with --bundle; a server has its own" in told.stderr
