"""The pipeline of an item encoder's owner, for a bundle that is what its folder says, or what an option asked for."""

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.folder import EncoderFolder, read_encoder_folder
from rankport.exporters.kinds.item_encoder.limits import item_encoder_limits
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.item_encoder.output import output_form
from rankport.exporters.kinds.item_encoder.prompt import skipped_tokens
from rankport.exporters.kinds.texts.folder_prompt import folder_prompt
from rankport.exporters.kinds.texts.sentence_pipeline import OwnersPipeline, load_pipeline, pipeline_obstacle
from rankport.exporters.options.checks import flag_name
from rankport.protos.errors import InvalidRequest, ParityError
from rankport.runtime.bundle.manifest import Embedding, Manifest, Prompt


def owners_pipeline(source: Checkpoint, manifest: Manifest) -> OwnersPipeline | str | None:
    """Loads the pipeline of the folder that a bundle states; a text says why there is none.

    None for a checkpoint that is no folder of sentence-transformers. Raises ParityError for a bundle that is other
    than the folder says without an option that asked for it.
    """
    folder = read_encoder_folder(source.path)
    if folder is None:
        return None
    said = [name for name in manifest.source.overrides if name != "max_item_tokens"]
    if said:
        return f"{', '.join(map(flag_name, said))} may say otherwise than the folder"
    prompt = _stated_prompt(source, folder, manifest)
    return pipeline_obstacle(source, manifest) or load_pipeline(source, manifest, prompt)


def _stated_prompt(source: Checkpoint, folder: EncoderFolder, manifest: Manifest) -> str:
    """Finds the folder's prompt by which a manifest has the very form, prompt and limit that the folder asks for.

    Raises ParityError naming the field that is other than the folder says, and was not asked for.
    """
    assert manifest.embedding is not None
    differences = []
    for name in (None, *folder.prompts):
        options = ItemEncoderOptions(prompt_name=name, output_dtype=manifest.embedding.dtype)
        try:
            resolved = folder_prompt(source, folder, name)
        except InvalidRequest:  # of a prompt that cannot be exported, so this bundle has another
            continue
        form = output_form(source, options, skipped_tokens(source, resolved, options))
        if resolved.prompt == manifest.prompt and form == manifest.embedding:
            _require_limit(source, manifest)
            return folder.prompt(name)
        differences.append(_difference(manifest, resolved.prompt, form))
    first = next(iter(differences), "prompt: none of the folder's can be exported")
    raise ParityError(f"{first}, as no option of the export asked for")


def _require_limit(source: Checkpoint, manifest: Manifest) -> None:
    stated, limit = item_encoder_limits(source, ItemEncoderOptions()), manifest.limits.max_item_tokens
    if "max_item_tokens" not in manifest.source.overrides and limit != stated.max_item_tokens:
        raise ParityError(
            f"limits.max_item_tokens: is {limit}, the folder says {stated.max_item_tokens}, as no option of the export "
            "asked for"
        )


def _difference(manifest: Manifest, prompt: Prompt, form: Embedding) -> str:
    """Names the first field in which a manifest is other than its folder."""
    assert manifest.embedding is not None
    for name in type(form).model_fields:
        ours, folders = getattr(manifest.embedding, name), getattr(form, name)
        if ours != folders:
            return f"embedding.{name}: is {ours!r}, the folder says {folders!r}"
    ours, folders = (part.model_dump_json(exclude_defaults=True) for part in (manifest.prompt, prompt))
    return f"prompt: is {ours}, the folder says {folders}"
