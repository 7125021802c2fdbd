"""The generator's part of an export."""

from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.generator.options import GeneratorOptions
from rankport.exporters.kinds.generator.plan import check_generator, generator_prompt, plan_generator
from rankport.exporters.kinds.generator.proof.measure import measure_generator
from rankport.exporters.kinds.work import ExportWork


def _claims(model: StatedModel) -> bool:
    """Claims nothing: a decoder without a word is taken for a ranker."""
    return False


WORK: ExportWork[GeneratorOptions] = ExportWork(
    claims=_claims,
    head="own",
    check=check_generator,
    prompt=generator_prompt,
    plan=plan_generator,
    measure=measure_generator,
)
