"""The tagger's part of an export."""

from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.tagger.options import TaggerOptions
from rankport.exporters.kinds.tagger.plan import plan_tagger
from rankport.exporters.kinds.tagger.prompt import check_tagger_prompt, tagger_prompt
from rankport.exporters.kinds.tagger.proof.measure import measure_tagger
from rankport.exporters.kinds.work import ExportWork


def _claims(model: StatedModel) -> bool:
    """Claims models whose head labels each token."""
    return model.head == "token_head"


WORK: ExportWork[TaggerOptions] = ExportWork(
    claims=_claims,
    head="own",
    check=check_tagger_prompt,
    prompt=tagger_prompt,
    plan=plan_tagger,
    measure=measure_tagger,
    finds_loud=True,
)
