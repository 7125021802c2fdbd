"""Models that transformers builds of a config are the same in every process."""

import sys

from transformers import AutoConfig

from rankport.exporters.checkpoints.forms.skeleton import building
from rankport.exporters.graphs.ordered_sets import OrderedSet


def test_the_code_of_a_model_and_of_those_in_it_makes_sets_in_one_order() -> None:
    config = AutoConfig.for_model("cohere_compass", text_config={"model_type": "cohere_compass_text"})
    seeing = AutoConfig.for_model("llava")  # whose text is Llama's, which has code of its own
    with building(config), building(seeing):
        families = ("cohere_compass", "llava", "llama")
        code = [sys.modules[f"transformers.models.{family}.modeling_{family}"] for family in families]
        assert [vars(module).get("set") for module in code] == [OrderedSet] * 3
    assert not any("set" in vars(module) for module in code)
