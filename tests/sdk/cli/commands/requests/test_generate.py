"""`rankport generate`: one text as it comes, or all that beams find."""

import json

import numpy as np

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


def test_flags_of_logits_and_log_probabilities_are_those_of_a_request(generator_bundle: Bundle) -> None:
    sampling = Sampling(
        max_tokens=6,
        presence_penalty=1.5,
        frequency_penalty=-0.5,
        logit_bias={2: 100.0, 40: -3.5},
        min_tokens=2,
        ignore_eos=True,
        logprobs=True,
        top_logprobs=2,
    )
    with Generator.load(generator_bundle, config=EngineConfig(threads=1)) as generator:
        result = generator.generate("red shoes", sampling)
    assert result.logprobs is not None
    penalties = ("--presence-penalty", "1.5", "--frequency-penalty", "-0.5")
    biases = ("--logit-bias", "2=100", "--logit-bias", "40=-3.5", "--min-tokens", "2", "--ignore-eos")
    asked = (*ASKED, "--bundle", generator_bundle.path, *penalties, *biases, "--logprobs", "2")
    told = json.loads(rankport(*asked, "--json").stdout)
    assert told["token_ids"] == [*result.token_ids]
    np.testing.assert_allclose(told["logprobs"], result.logprobs, atol=1e-5)
    assert [[each["token_id"] for each in place] for place in told["top_logprobs"]] == [
        [each.token_id for each in place] for place in result.top_logprobs
    ]
    assert "--logprobs is told with --json" in rankport(*asked).stderr
    wrong = rankport(*ASKED, "--bundle", generator_bundle.path, "--logit-bias", "a=1")
    assert (wrong.returncode, "give TOKEN=BIAS" in wrong.stderr) == (2, True)


def test_a_device_is_one_of_a_bundle_that_has_graphs_for_it(generator_bundle: Bundle) -> None:
    asked = ("generate", "red shoes", "--device", "tensorrt")
    told = rankport(*asked, "--bundle", generator_bundle.path)
    assert told.returncode == 2
    assert "writes text, which device tensorrt does not yet: take --device cpu or cuda" in told.stderr
    told = rankport(*asked, "--server", "localhost:1")
    assert told.returncode == 2
    assert "--device goes with --bundle; a server has its own" in told.stderr
