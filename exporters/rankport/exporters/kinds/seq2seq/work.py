"""The part of an export of an encoder-decoder that writes."""

from rankport.exporters.checkpoints.stated import StatedModel, speaking_folders
from rankport.exporters.kinds.seq2seq.families import ARCHITECTURES
from rankport.exporters.kinds.seq2seq.options import Seq2SeqOptions
from rankport.exporters.kinds.seq2seq.plan import check_seq2seq, plan_seq2seq, seq2seq_prompt
from rankport.exporters.kinds.seq2seq.proof.measure import measure_seq2seq
from rankport.exporters.kinds.work import ExportWork
from rankport.exporters.options.stated_prompt import stated_preset


def _claims(model: StatedModel) -> bool:
    """Claims the families that are exported, unless their folder says that they score."""
    if model.architecture not in ARCHITECTURES or model.makes_embeddings:
        return False
    return stated_preset(speaking_folders(model.path, model.base)) is None


WORK: ExportWork[Seq2SeqOptions] = ExportWork(
    claims=_claims,
    head="own",
    check=check_seq2seq,
    prompt=seq2seq_prompt,
    plan=plan_seq2seq,
    measure=measure_seq2seq,
)
