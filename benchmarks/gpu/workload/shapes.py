"""Model and request shapes that are measured, and the arithmetic that an answer needs."""

from dataclasses import dataclass

Parameters = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder of Qwen3's architecture, its embedding table tied to its LM head."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    mix: bool  # takes items as one embedding token each, beside text
    max_prefix_tokens: int
    max_item_tokens: int

    def parameters(self) -> Parameters:
        """Shape of every parameter by its name in a checkpoint."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        layer: Parameters = {
            "input_layernorm.weight": (self.hidden,),
            "self_attn.q_proj.weight": (q, self.hidden),
            "self_attn.k_proj.weight": (kv, self.hidden),
            "self_attn.v_proj.weight": (kv, self.hidden),
            "self_attn.q_norm.weight": (self.head_dim,),
            "self_attn.k_norm.weight": (self.head_dim,),
            "self_attn.o_proj.weight": (self.hidden, q),
            "post_attention_layernorm.weight": (self.hidden,),
            "mlp.gate_proj.weight": (self.ffn, self.hidden),
            "mlp.up_proj.weight": (self.ffn, self.hidden),
            "mlp.down_proj.weight": (self.hidden, self.ffn),
        }
        found: Parameters = {"model.embed_tokens.weight": (self.vocabulary, self.hidden)}
        for index in range(self.layers):
            found |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
        return found | {"model.norm.weight": (self.hidden,)}

    def flops(self, request: "RequestShape", *, cached: bool = False) -> float:
        """Floating-point operations that the logits of one request need, a multiply-add counted as two.

        Per token and layer: 2 x the weights of its matrices (as the 2N of Kaplan et al., 2020, appendix B, without
        embedding and head), and 4 x heads x head_dim for each position it attends to, itself included. The prefix
        is counted once, not at all if `cached`; only label rows are read of the head, which is left out. Not
        counted is what no answer needs: in the last block, all of a prefix but its keys and values, and queries,
        output and MLP of tokens that are not an item's last.
        """
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        keys_values = 2 * self.hidden * 2 * kv
        rest = 2 * (2 * self.hidden * q + 3 * self.hidden * self.ffn)
        attended = 4 * q

        def tokens(count: int, past: int, rows: int) -> float:
            """A run of `count` tokens after `past`, of which the last block computes the last `rows`."""
            positions = count * past + count * (count + 1) / 2
            last_positions = rows * (past + count) - rows * (rows - 1) / 2
            whole = (self.layers - 1) * (count * (keys_values + rest) + attended * positions)
            return whole + count * keys_values + rows * rest + attended * last_positions

        prefix = 0.0 if cached else tokens(request.prefix, 0, 0)
        return prefix + request.items * tokens(request.item, request.prefix, 1)


@dataclass(frozen=True, slots=True)
class RequestShape:
    """One query with its items, all of one length."""

    name: str
    prefix: int  # tokens
    items: int
    item: int  # tokens; of a mixed item: one embedding and special tokens
    mixed: bool  # items are embeddings
    queries: int  # that are in flight at once when throughput is measured in process
    callers: tuple[int, ...]  # of the served ramp, ascending

    @property
    def tokens(self) -> int:
        """Tokens of one request whose prefix is computed once."""
        return self.prefix + self.items * self.item


@dataclass(frozen=True, slots=True)
class Workload:
    """A model with the requests that it is measured on, the most important first."""

    model: ModelShape
    requests: tuple[RequestShape, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """What a run measures: the real shapes, or toys that a CPU rehearses with."""

    workloads: tuple[Workload, ...]
    product: int  # rows, columns and inner size of the matrix product that gives the ceiling
    copy_bytes: int
    step_s: float  # counted seconds of one served step
    warm_up_s: float
    rounds: int
    generators: int  # processes that make load
    peer_tokens: tuple[int, ...] = (16_384, 65_536)  # tokens of a peer's pass, the best counts


_QWEN3_06B = ModelShape("mixlm", 28, 1024, 16, 8, 128, 3072, 151_936, True, 128, 1024)
_SLM_375M = ModelShape("slm", 20, 1024, 16, 8, 128, 1536, 151_936, False, 128, 256)
FULL = Scale(
    workloads=(
        Workload(
            _QWEN3_06B,
            (
                RequestShape("mixed-250", 60, 250, 2, True, 128, (4, 16, 48, 96)),
                RequestShape("mixed-50", 60, 50, 2, True, 256, (32, 128)),
                RequestShape("full-text", 60, 50, 900, False, 6, (2, 4)),
                # SGLang's, of 300 tokens a prompt and 10 items.
                RequestShape("text-10", 120, 10, 180, False, 48, (16, 48)),
            ),
        ),
        Workload(_SLM_375M, (RequestShape("summarised", 50, 50, 150, False, 32, (4, 12, 24, 40)),)),
    ),
    product=8192,
    copy_bytes=4 * 2**30,
    step_s=4.0,
    warm_up_s=1.0,
    rounds=5,
    generators=6,
)
TINY = Scale(
    workloads=(
        Workload(
            ModelShape("mixlm", 2, 64, 4, 2, 32, 96, 512, True, 16, 40),
            (
                RequestShape("mixed-250", 6, 12, 2, True, 8, (1, 2, 4)),
                RequestShape("mixed-50", 6, 5, 2, True, 8, (1, 2, 4)),
                RequestShape("full-text", 6, 5, 30, False, 2, (1, 2)),
                RequestShape("text-10", 12, 3, 18, False, 2, (1, 2)),
            ),
        ),
        Workload(
            ModelShape("slm", 2, 64, 4, 2, 32, 48, 512, False, 16, 40),
            (RequestShape("summarised", 5, 5, 15, False, 4, (1, 2)),),
        ),
    ),
    product=256,
    copy_bytes=2**24,
    step_s=0.6,
    warm_up_s=0.3,
    rounds=2,
    generators=2,
    peer_tokens=(128, 512),
)


def scale_of(tiny: bool) -> Scale:
    """The shapes of a run."""
    return TINY if tiny else FULL
