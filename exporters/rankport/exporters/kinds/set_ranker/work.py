"""The rankers of sets' part of an export."""

from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.set_ranker.options import SetRankerOptions
from rankport.exporters.kinds.set_ranker.plan import plan_set_ranker, set_ranker_prompt
from rankport.exporters.kinds.set_ranker.proof.measure import measure_set_ranker
from rankport.exporters.kinds.work import ExportWork


def _claims(model: StatedModel) -> bool:
    """Claims what says that it ranks sets."""
    return model.head == "sets"


WORK: ExportWork[SetRankerOptions] = ExportWork(
    claims=_claims,
    head="own",
    prompt=set_ranker_prompt,
    plan=plan_set_ranker,
    measure=measure_set_ranker,
)
