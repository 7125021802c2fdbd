"""Options of the export of a list ranker, beside what every export can."""

from dataclasses import dataclass, field

from rankport.exporters.options.checks import require_count
from rankport.exporters.options.options import ExportOptions
from rankport.exporters.options.request_files import StrPath
from rankport.exporters.options.shared_flags import EMBEDDING_TOKENS, ITEM_ENCODER
from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRankerOptions(ExportOptions):
    """Options of a list ranker. By default it is what its config says, blocks up to 4,096 tokens."""

    max_list_items: int | None = field(
        default=None, metadata=flag("Most items of a block. [default: the checkpoint's]")
    )
    max_list_tokens: int | None = field(
        default=None,
        metadata=flag(
            "Most tokens of a block, its prompt included; attention takes memory by their square. [default: 4096, "
            "within the checkpoint's positions]"
        ),
    )
    max_prefix_tokens: int | None = field(
        default=None, metadata=flag("Longest prefix the bundle accepts. [default: the checkpoint's]")
    )
    item_encoder: StrPath | None = field(default=None, metadata=ITEM_ENCODER)
    embedding_tokens: int | None = field(default=None, metadata=EMBEDDING_TOKENS)

    def __post_init__(self) -> None:
        ExportOptions.__post_init__(self)
        for name in ("max_list_items", "max_list_tokens", "max_prefix_tokens", "embedding_tokens"):
            require_count(name, getattr(self, name), least=1)
        if self.embedding_tokens is not None and self.item_encoder is None:
            raise InvalidRequest("--embedding-tokens goes with --item-encoder, whose tokens they are")
        if "tensorrt" in self.targets or self.plans:
            raise InvalidRequest(
                f"--target {','.join(self.targets)}: a list ranker is exported for onnx-cpu and onnx-cuda, as TensorRT "
                "runs none yet: take those"
            )
        for name, why in (
            ("prompt", "its prompt is the checkpoint's own (template of config.json or list_ranker.toml)"),
            ("reference", "its scores are of a list, in an order"),
        ):
            if getattr(self, name) is not None:
                raise InvalidRequest(f"--{name}: a list ranker has no use for it, {why}: leave it out")
        if self.base is not None:
            raise InvalidRequest(
                "--base: no adapter is merged into a list ranker here: merge it with peft's merge_and_unload(), save "
                "the result, and put list_ranker.toml beside its config.json"
            )
