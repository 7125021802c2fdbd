"""Checks of a classifier's export before any weight is read: its prompt, and judged texts against labels."""

from collections.abc import Collection
from pathlib import Path

from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.exporters.checkpoints.sentence_transformers.folder import CONFIG_FILE
from rankport.exporters.checkpoints.sentence_transformers.modules import transformer_folder
from rankport.exporters.kinds.classifier.options import ClassifierOptions
from rankport.exporters.options.bad_lines import BadLines
from rankport.exporters.options.judged_texts import JudgedText, read_judged_texts
from rankport.exporters.options.prompts import check_prompt_name


def check_classifier(checkpoint: Path, options: ClassifierOptions) -> None:
    """Checks what options and the folder's small files tell.

    Raises InvalidRequest for a prompt that is neither file nor preset, and for judged texts that are no pairs where
    pairs are read, or the reverse, or have a label that the folder does not name; all such lines are named.
    """
    check_prompt_name(options.prompt)
    if options.judged is None:
        return
    names = options.labels or _stated_names(checkpoint)
    bad = BadLines()
    for text in read_judged_texts(Path(options.judged)):
        bad.lines += 1
        complaint = _complaint(text, options, names)
        if complaint:
            bad.add(text.place, complaint)
    bad.raise_any()


def _complaint(text: JudgedText, options: ClassifierOptions, names: Collection[str]) -> str:
    paired = isinstance(text.text, tuple)
    if paired != (options.texts == "pair"):
        return (
            "is a pair: give --texts pair"
            if paired
            else "is one text, and --texts pair reads two: give texts"
        )
    unknown = [name for name in text.labels if names and name not in names]
    return f"label {unknown[0]!r} is none of {', '.join(names)}" if unknown else ""


def _stated_names(checkpoint: Path) -> tuple[str, ...]:
    """Takes the labels that the folder names; none where it names none, which is refused elsewhere."""
    own, config = checkpoint / CONFIG_FILE, transformer_folder(checkpoint) / "config.json"
    labels = read_json_object(own).get("labels") if own.is_file() else None
    if isinstance(labels, list):
        return tuple(map(str, labels))
    names = read_json_object(config).get("id2label") if config.is_file() else None
    return tuple(map(str, names.values())) if isinstance(names, dict) else ()
