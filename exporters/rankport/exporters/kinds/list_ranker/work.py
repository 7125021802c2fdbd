"""The list rankers' part of an export."""

from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.list_ranker.options import ListRankerOptions
from rankport.exporters.kinds.list_ranker.plan import list_ranker_prompt, plan_list_ranker
from rankport.exporters.kinds.list_ranker.proof.measure import measure_list_ranker
from rankport.exporters.kinds.work import ExportWork


def _claims(model: StatedModel) -> bool:
    """Claims what says that it ranks lists: by its config, or by the class of jina-reranker-v3."""
    return model.head == "list"


WORK: ExportWork[ListRankerOptions] = ExportWork(
    claims=_claims,
    head="own",
    prompt=list_ranker_prompt,
    plan=plan_list_ranker,
    measure=measure_list_ranker,
)
