"""The item encoder's part of an export."""

from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.item_encoder.plan import plan_item_encoder
from rankport.exporters.kinds.item_encoder.prompt import check_item_encoder_prompt, item_encoder_prompt
from rankport.exporters.kinds.item_encoder.proof.measure import measure_item_encoder
from rankport.exporters.kinds.work import ExportWork


def _claims(model: StatedModel) -> bool:
    """Claims bodies, encoder-decoders for their encoder, and sentence-transformers' encoders without labels."""
    return not model.has_class_labels and (
        model.makes_embeddings or model.head in ("none", "seq2seq_lm_head")
    )


WORK: ExportWork[ItemEncoderOptions] = ExportWork(
    claims=_claims,
    head="none",
    check=check_item_encoder_prompt,
    prompt=item_encoder_prompt,
    plan=plan_item_encoder,
    measure=measure_item_encoder,
)
