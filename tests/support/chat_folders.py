"""Folders with a tokenizer and a chat template, of each way in which published ones write turns."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from support.text_tokenizers import saved

SPECIAL = ("<s>", "</s>", "<|start|>", "<|end|>", "[INST]", "[/INST]")
SWALLOWING = ("<|user|>", "<|system|>", "<|assistant|>", "<|stop|>")
"""Special tokens that take the white space behind them with them, as Phi-3's do."""
ADDED = ("<think>", "</think>")

_TURN = "<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n"
_ANSWER = "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
_OR_DEFAULT = "{% if messages[0].role != 'system' %}<|start|>system\nYou help.<|end|>\n{% endif %}"
_ALTERNATING = (
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('take turns') }}{% endif %}"
)
_WITHOUT_SYSTEM = (
    "{% set first = messages[0].content if messages[0].role == 'system' else '' %}"
    "{% set turns = messages[1:] if messages[0].role == 'system' else messages %}{% for m in turns %}"
    + _ALTERNATING
)

TEMPLATES = {
    # ChatML: a turn each.
    "turns": "{% for m in messages %}" + _TURN + "{% endfor %}" + _ANSWER,
    # Qwen2.5, SmolLM2: a system of its own where none is given.
    "default-system": _OR_DEFAULT + "{% for m in messages %}" + _TURN + "{% endfor %}" + _ANSWER,
    # Qwen3: thoughts of earlier answers are left out, and a last one is written otherwise.
    "thinking": (
        "{% for m in messages %}{% set c = m.content.split('</think>')[-1].lstrip('\n') if m.role == 'assistant' and "
        "'</think>' in m.content else m.content %}<|start|>{{ m.role }}\n{% if loop.last and m.role == 'assistant' %}"
        "<think>\n\n</think>\n\n{% endif %}{{ c }}<|end|>\n{% endfor %}"
        + _ANSWER
        + "{% if add_generation_prompt and "
        "enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    ),
    # Qwen3.5: texts are trimmed before thoughts are left out.
    "trimmed-thinking": (
        "{% for m in messages %}{% set c = m.content | trim %}{% if m.role == 'assistant' and '</think>' in c %}"
        "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}<|start|>{{ m.role }}\n{{ c }}<|end|>\n"
        "{% endfor %}" + _ANSWER
    ),
    # DeepSeek-R1: as above, the rest as it is, and the answer begins with a thought.
    "thinking-first": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}"
        "[INST]{{ m.content }}{% else %}[/INST]{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}[/INST]<think>\n{% endif %}"
    ),
    # Llama 3.2: texts are trimmed, and a day is told.
    "trimmed": (
        "{{ bos_token }}{% set s = messages[0].content | trim if messages[0].role == 'system' else '' %}<|start|>system"
        "\n{% if day is not defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}Today: {{ day }}\n\n{{ s }}"
        "<|end|>{% for m in (messages[1:] if messages[0].role == 'system' else messages) %}<|start|>{{ m.role }}\n\n"
        "{{ m.content | trim }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n\n{% endif %}"
    ),
    # Gemma 2: turns alternate, nobody is the system.
    "no-system": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for m in messages %}"
        + _ALTERNATING
        + "<|start|>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>model\n{% endif %}"
    ),
    # Gemma 3: the system stands in the first message of the user.
    "first-user": (
        "{{ bos_token }}"
        + _WITHOUT_SYSTEM
        + "<|start|>{{ m.role }}\n{% if loop.first and first %}{{ first }}\n\n"
        "{% endif %}{{ m.content | trim }}<|end|>\n{% endfor %}" + _ANSWER
    ),
    # Mistral: in the last one.
    "last-user": (
        "{{ bos_token }}"
        + _WITHOUT_SYSTEM
        + "{% if m.role == 'user' %}[INST] {% if loop.last and first %}{{ first }}"
        "\n\n{% endif %}{{ m.content }}[/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    # Llama 2: in the first one, both stripped as one text.
    "stripped-together": (
        _WITHOUT_SYSTEM
        + "{% set c = '<<SYS>>\n' + first + '\n<</SYS>>\n\n' + m.content if loop.first and first else "
        "m.content %}{% if m.role == 'user' %}{{ bos_token }}[INST] {{ c.strip() }} [/INST]{% else %} "
        "{{ c.strip() }} {{ eos_token }}{% endif %}{% endfor %}"
    ),
    # Phi-3: special tokens that take white space, and an end where no answer is asked for.
    "swallowing": (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|stop|>\n{% endfor %}{% if add_generation_prompt %}"
        "<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
    ),
    # Vicuna: no special tokens, so that all is one text.
    "one-text": (
        "{{ messages[0].content if messages[0].role == 'system' else 'A chat.' }}{% for m in messages %}"
        "{% if m.role == 'user' %} USER: {{ m.content.strip() }}{% elif m.role == 'assistant' %} ASSISTANT: "
        "{{ m.content.strip() }}{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:"
        "{% endif %}"
    ),
}


def write_tokenizer(
    folder: Path, template: str | None, kind: str = "byte-level", prepends: str = "always", **config: Any
) -> Path:
    """Writes a tokenizer whose config has a chat template; `prepends`: where a metaspace stands before a text."""
    made = tokenizers.Tokenizer.from_str(_prepending(saved(kind), prepends))
    _add(made, SPECIAL, special=True)
    _add(made, SWALLOWING, special=True, rstrip=True)
    _add(made, ADDED, special=False)
    made.save(str(folder / "tokenizer.json"))
    stated = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", **config}
    if template is not None:
        stated["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    return folder / "tokenizer.json"


def _add(made: tokenizers.Tokenizer, names: Sequence[str], **flags: bool) -> None:
    made.add_tokens([AddedToken(name, normalized=False, **flags) for name in names])


def _prepending(text: str, where: str) -> str:
    stated = json.loads(text)
    if (stated["pre_tokenizer"] or {}).get("type") == "Metaspace":
        stated["pre_tokenizer"]["prepend_scheme"] = where
    return json.dumps(stated)
