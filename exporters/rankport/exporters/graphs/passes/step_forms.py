"""Forms of attention that `step_attention` writes for a layer, each a branch: it gives what attention mixed, and KV."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from rankport.exporters.graphs.passes.branches import Branch, Constants
from rankport.exporters.graphs.passes.step_heads import Heads

_BY_HEAD = (0, 2, 1, 3)


@dataclass(frozen=True, slots=True)
class Layer:
    """One node of attention."""

    query: ir.Value  # [1, tokens, ...]
    key: ir.Value
    value: ir.Value
    past_key: ir.Value
    past_value: ir.Value
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    softcap: float
    window: int = 0  # how many of the last tokens one sees, itself included; 0: all
    sinks: ir.Value | None = None  # [heads] scores of one key more, whose value is nothing
    made_of: Heads | None = None  # what queries, keys and values come of, where the operator can take that

    @property
    def group(self) -> int:
        """Query heads that share a key."""
        return self.heads // self.kv_heads


@dataclass(frozen=True, slots=True)
class InPlace:
    """Values that tell `GroupQueryAttention` where a token goes."""

    before: ir.Value  # [prefixes] int32: tokens of the past
    longest: ir.Value  # [1] int32: of all prefixes, the token counted
    rows: ir.Value  # [prefixes, 1] of each token in tables of rotations
    tables: Mapping[ir.Value, ir.Value]  # those of rotations by those that are as long as the operator wants
    biases: Mapping[int, ir.Value]  # [prefixes, 1, 1, longest] by window


@dataclass(frozen=True, slots=True)
class Within:
    """Masks of one window."""

    past_mask: ir.Value  # [prefixes, 1, 1, length, 1, past]
    own_mask: ir.Value  # [length, 1, length]


@dataclass(frozen=True, slots=True)
class Pass:
    """Values that all layers share."""

    step: ir.Value  # [1] bool: every prefix has one token, and if in place, its past has room for it
    in_place: InPlace | None
    slots: ir.Value  # [prefixes * items * item_tokens]
    token_slots: ir.Value
    prefixes: ir.Value  # [1] each
    items: ir.Value
    length: ir.Value
    rows: ir.Value  # items * length
    parts: ir.Value  # [2]: past, length
    past_mask: ir.Value  # [prefixes, 1, 1, past]
    own_mask: ir.Value  # [length, 1, length]
    within: Mapping[int, Within]  # by window


def one_token_each(layer: Layer, constants: Constants, shared: Pass) -> Branch:
    """Attends with a token of every prefix."""
    branch, kv_heads, dim = Branch(constants), layer.kv_heads, layer.head_dim
    query = branch.reshape(layer.query, -1, kv_heads, layer.group, dim)
    key = branch.reshape(layer.key, -1, kv_heads, 1, dim)
    value = branch.reshape(layer.value, -1, kv_heads, 1, dim)
    mask = shared.past_mask
    if layer.window:
        mask = branch.add("Squeeze", shared.within[layer.window].past_mask, constants.ints(3, 4))
    to_past = branch.add("Add", _scores(branch, layer, query, layer.past_key), mask)
    both = branch.add("Concat", to_past, _scores(branch, layer, query, key), axis=-1)
    sinks = None
    if layer.sinks is not None:
        shape = branch.add("Concat", shared.prefixes, constants.ints(kv_heads, layer.group, 1), axis=0)
        sinks = branch.add("Expand", branch.reshape(layer.sinks, 1, kv_heads, layer.group, 1), shape)
    of_past, of_own = _weights(branch, both, shared.parts, sinks)
    mixed = branch.add(
        "Add", branch.add("MatMul", of_past, layer.past_value), branch.add("Mul", of_own, value)
    )
    branch.results = [branch.reshape(mixed, 1, -1, layer.heads * dim), key, value]
    return branch


def token_in_place(layer: Layer, constants: Constants, where: InPlace) -> Branch:
    """Attends with a token of every prefix, and puts its keys and values into the past."""
    branch, made_of = Branch(constants), layer.made_of
    states: tuple[ir.Value | None, ...]
    rotation: tuple[ir.Value, ...] = ()
    if made_of is None:
        parts = ((layer.query, layer.heads), (layer.key, layer.kv_heads), (layer.value, layer.kv_heads))
        states = tuple(branch.reshape(part, -1, 1, heads * layer.head_dim) for part, heads in parts)
    else:
        states = _as_one(branch, layer, made_of), None, None
        if made_of.tables is not None:
            rotation = *(where.tables[table] for table in made_of.tables), where.rows
    # A window as a bias: the operator's own had one token more before 1.23, and a bias is the same in every version.
    bias = where.biases[layer.window] if layer.window else None
    more = (*(rotation or (None,) * 3), bias, layer.sinks)
    while more and more[-1] is None:
        more = more[:-1]
    mixed, key, value = branch.several(
        3,
        "GroupQueryAttention",
        *states,
        layer.past_key,
        layer.past_value,
        where.before,
        where.longest,
        *more,
        domain="com.microsoft",
        num_heads=layer.heads,
        kv_num_heads=layer.kv_heads,
        scale=layer.scale,
        softcap=layer.softcap,
        do_rotary=int(bool(rotation)),
    )
    branch.results = [branch.reshape(mixed, 1, -1, layer.heads * layer.head_dim), key, value]
    return branch


def _as_one(branch: Branch, layer: Layer, made_of: Heads) -> ir.Value:
    """Puts queries, keys and values behind each other, not rotated. [tokens, 1, (heads + 2 * kv_heads) * head_dim]"""
    products, norms = made_of.products, made_of.norms
    states = products[0] if len(products) == 1 else branch.add("Concat", *products, axis=-1)
    normed, heads = layer.heads + layer.kv_heads, layer.heads + 2 * layer.kv_heads
    if norms is not None:
        by_head = branch.reshape(states, -1, heads, layer.head_dim)
        sizes = branch.constants.ints(normed, layer.kv_heads)
        both, value = branch.several(2, "Split", by_head, sizes, axis=1)
        both = branch.add(
            "SimplifiedLayerNormalization",
            both,
            norms.weights,
            axis=-1,
            stash_type=1,
            epsilon=norms.epsilon,
        )
        states = branch.add("Concat", both, value, axis=1)
    return branch.reshape(states, -1, 1, heads * layer.head_dim)


class BySlot:
    """Attention of whatever tokens there are: as `PackedPrefix.attend`, but for the order of rows in a group."""

    def __init__(self, layer: Layer, constants: Constants, shared: Pass) -> None:
        self._layer, self._shared, self._branch = layer, shared, Branch(constants)
        self._heads, self._groups, self._width = (
            constants.ints(number) for number in (layer.kv_heads, layer.group, layer.head_dim)
        )

    def branch(self) -> Branch:
        """Makes the nodes."""
        branch, layer, shared = self._branch, self._layer, self._shared
        if layer.made_of is not None:
            branch.nodes.extend(layer.made_of.nodes)
        query = self._by_prefix(self._laid_out(layer.query, layer.group * layer.head_dim), self._width)
        key, value = (self._laid_out(states, layer.head_dim) for states in (layer.key, layer.value))
        both = branch.add("Concat", self._to_past(query), self._to_own(query, key), axis=-1)
        of_past, of_own = _weights(branch, both, shared.parts, self._sinks())
        own = branch.add("MatMul", self._by_item(of_own, shared.length), self._by_item(value, self._width))
        past = branch.add("MatMul", of_past, layer.past_value)
        mixed = branch.add("Add", past, self._by_prefix(own, self._width))
        branch.results = [self._packed(mixed), key, value]
        return branch

    def _sinks(self) -> ir.Value | None:
        """[prefixes, kv_heads, items * item_tokens * group, 1]"""
        branch, layer, shared = self._branch, self._layer, self._shared
        if layer.sinks is None:
            return None
        by_head = branch.reshape(layer.sinks, 1, layer.kv_heads, 1, layer.group)
        shape = branch.shape(shared.prefixes, self._heads, shared.rows, self._groups)
        return self._by_prefix(branch.add("Expand", by_head, shape), branch.constants.ints(1))

    def _to_past(self, query: ir.Value) -> ir.Value:
        branch, shared, window = self._branch, self._shared, self._layer.window
        scores = _scores(branch, self._layer, query, self._layer.past_key)
        if not window:
            return branch.add("Add", scores, shared.past_mask)
        past = branch.size(self._layer.past_key, 2)
        shape = (shared.prefixes, self._heads, shared.items, shared.length, self._groups, past)
        by_token = branch.add("Reshape", scores, branch.shape(*shape), allowzero=1)  # there may be no past
        masked = branch.add("Add", by_token, shared.within[window].past_mask)
        rows = branch.add("Mul", shared.rows, self._groups)
        return branch.add(
            "Reshape", masked, branch.shape(shared.prefixes, self._heads, rows, past), allowzero=1
        )

    def _to_own(self, query: ir.Value, key: ir.Value) -> ir.Value:
        branch, layer, shared = self._branch, self._layer, self._shared
        by_item = (self._by_item(states, self._width) for states in (query, key))
        scores = _scores(branch, layer, *by_item)
        shape = (shared.prefixes, self._heads, shared.items, shared.length, self._groups, shared.length)
        mask = shared.within[layer.window].own_mask if layer.window else shared.own_mask
        masked = branch.add("Add", branch.add("Reshape", scores, branch.shape(*shape)), mask)
        return self._by_prefix(masked, shared.length)

    def _laid_out(self, states: ir.Value, width: int) -> ir.Value:
        """[prefixes, kv_heads, items * item_tokens, width]"""
        branch, shared = self._branch, self._shared
        gathered = branch.add("Gather", states, shared.slots, axis=1)
        shape = branch.shape(shared.prefixes, shared.rows, self._heads, branch.constants.ints(width))
        return branch.add("Transpose", branch.add("Reshape", gathered, shape), perm=_BY_HEAD)

    def _by_item(self, states: ir.Value, last: ir.Value) -> ir.Value:
        """[prefixes, kv_heads, items, -1, last]"""
        branch, shared = self._branch, self._shared
        shape = (shared.prefixes, self._heads, shared.items, branch.constants.ints(-1), last)
        return branch.add("Reshape", states, branch.shape(*shape))

    def _by_prefix(self, states: ir.Value, last: ir.Value) -> ir.Value:
        """[prefixes, kv_heads, items * item_tokens * group, last]"""
        branch, shared = self._branch, self._shared
        rows = branch.add("Mul", shared.rows, self._groups)
        return branch.add("Reshape", states, branch.shape(shared.prefixes, self._heads, rows, last))

    def _packed(self, mixed: ir.Value) -> ir.Value:
        """[1, tokens, heads * head_dim]"""
        branch, layer, shared = self._branch, self._layer, self._shared
        width = branch.constants.ints(layer.group * layer.head_dim)
        by_row = branch.add("Reshape", mixed, branch.shape(shared.prefixes, self._heads, shared.rows, width))
        by_token = branch.add("Transpose", by_row, perm=_BY_HEAD)
        flat = branch.reshape(by_token, 1, -1, layer.heads * layer.head_dim)
        return branch.add("Gather", flat, shared.token_slots, axis=1)


def _weights(
    branch: Branch, scores: ir.Value, parts: ir.Value, sinks: ir.Value | None = None
) -> tuple[ir.Value, ir.Value]:
    """Makes weights of scores: those of the past, and those of the pass's own tokens. Sinks take theirs away."""
    if sinks is None:
        return branch.split(branch.add("Softmax", scores, axis=-1), parts)
    weights = branch.add("Softmax", branch.add("Concat", scores, sinks, axis=-1), axis=-1)
    sizes = branch.add("Concat", parts, branch.constants.ints(1), axis=0)
    past, own, _ = branch.several(3, "Split", weights, sizes, axis=-1)
    return past, own


def _scores(branch: Branch, layer: Layer, query: ir.Value, key: ir.Value) -> ir.Value:
    scores = branch.add("FusedMatMul", query, key, transB=1, alpha=layer.scale, domain="com.microsoft")
    if not layer.softcap:
        return scores
    cap = branch.constants.float(layer.softcap)
    return branch.add("Mul", branch.add("Tanh", branch.add("Div", scores, cap)), cap)
