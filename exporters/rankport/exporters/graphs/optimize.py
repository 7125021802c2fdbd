"""Optimization of a traced graph: constants folded, patterns rewritten, nothing left twice.

Steps and rules are those of onnxscript's own optimizer, in its order, but that ones and zeros are exact. It tries every
rule at every node; here a rule is tried at nodes of the operators that its pattern ends in, which gives the same graph
in a fraction of the time.
"""

import logging
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer
from onnxscript.rewriter import RewritePass, RewriteRule, pattern
from onnxscript.rewriter.rules import common as rules

_ROUNDS = 2


class RuleAt:
    """A rule that is tried at nodes of some operators alone. Stands where onnxscript takes a `RewriteRule`."""

    def __init__(self, rule: RewriteRule, operators: Sequence[str]) -> None:
        self._rule, self._operators = rule, frozenset(operators)

    def try_rewrite(
        self, model: ir.Model, graph: ir.Graph | ir.Function, node: ir.Node, **options: Any
    ) -> Any:
        """Tries the rule; None where it does not apply."""
        return (
            self._rule.try_rewrite(model, graph, node, **options) if node.op_type in self._operators else None
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rule, name)


def optimize(model: ir.Model) -> None:
    """Optimizes a model in place, as `onnxscript.optimizer.optimize_ir` does."""
    each_round = ir.passes.PassManager(
        [
            _FoldConstants(),
            RewritePass(cast(Sequence[RewriteRule], RULES)),
            passes.RemoveUnusedNodesPass(),
            passes.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
            passes.RemoveUnusedOpsetsPass(),
        ],
        steps=_ROUNDS,
        early_stop=True,
    )
    ir.passes.Sequential(
        passes.InlinePass(),
        each_round,
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.LiftSubgraphInitializersToMainGraphPass(),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    )(model)


class _FoldConstants(ir.passes.InPlacePass):
    """Folding of constants, as a pass."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        log = logging.getLogger(optimizer.fold_constants.__module__)
        level = log.level
        log.setLevel(logging.ERROR)  # it warns of each norm whose other outputs it does not fold
        try:
            folded = optimizer.fold_constants(model, onnx_shape_inference=True)
        finally:
            log.setLevel(level)
        return ir.passes.PassResult(model, bool(folded))


def _rules() -> Iterator[RuleAt]:
    for operators, part in _RULES:
        for rule in part:
            yield RuleAt(rule, operators)


def _without(operation: Callable[[Any, Any], Any], number: float) -> RewriteRule:
    """Makes the rule that `operation` with a number gives back what it is done to.

    onnxscript's own takes any number within 1e-5 of 1, and within 1e-8 of 0: a norm lost its epsilon of 1e-8.
    """
    same = pattern.Constant(number, rel_tol=0.0, abs_tol=0.0)
    return RewriteRule(lambda op, x: operation(x, same), lambda op, x: op.Identity(x))


_RULES: tuple[tuple[tuple[str, ...], Sequence[RewriteRule]], ...] = (
    (("Mul",), _without(operator.mul, 1).commute()),
    (("Add",), _without(operator.add, 0).commute()),
    (("Sub",), (_without(operator.sub, 0),)),
    (("Div",), (_without(operator.truediv, 1),)),
    (("Dropout",), (rules.dropout_zero_rule, rules.dropout_inference_rule)),
    (("Reshape",), (rules.two_reshapes_matmul_reshape_rule, rules.one_reshape_matmul_reshape_rule)),
    (("Cast",), (rules.cast_constant_of_shape_rule, rules.cast_constant_of_shape_without_value_rule)),
    (("Slice",), (rules.collapse_slice_rule, rules.collapse_slice2_rule)),
    (("Reshape",), (rules.materialize_reshape_shape_rule,)),
    (("Min", "Max"), (rules.min_min_rule, rules.max_max_rule, rules.min_max_rule, rules.max_min_rule)),
    (
        ("Relu", "Clip"),
        (
            rules.successive_clip_relu_rule,
            rules.successive_relu_clip_rule,
            rules.successive_relu_rule,
            rules.successive_clip_rule,
        ),
    ),
    (("Cast",), (rules.cast_cast_rule, rules.no_op_cast_rule)),
    (("Expand",), (rules.no_op_expand_rule,)),
    (("Flatten",), (rules.flatten_to_reshape_rule,)),
    (("Reshape",), (rules.reshape_reshape_rule,)),
    (("Slice",), (rules.slice_split_rule,)),
    (("Transpose",), (rules.no_op_transpose_rule, rules.transpose_transpose_rule)),
    (("Unsqueeze",), (rules.unsqueeze_unsqueeze_rule,)),
    (("Reshape",), (rules.squeeze_reshape_1d_rule,)),
    (("ScatterND",), (rules.no_op_dynamic_scatter_nd_rule, rules.no_op_static_scatter_nd_rule)),
    (("Conv",), (rules.normalize_pad_format_conv_rule,)),
    (("ConvInteger",), (rules.normalize_pad_format_conv_integer_rule,)),
    (("Conv",), (rules.fuse_pad_into_conv_rule,)),
    (("ConvInteger",), (rules.fuse_pad_into_conv_integer_rule,)),
    (
        ("BatchNormalization",),
        (
            rules.fuse_batchnorm_into_conv_rule,
            rules.fuse_batchnorm_into_conv_transpose_rule,
            rules.fuse_batchnorm_into_gemm_rule,
        ),
    ),
    (("Conv",), (rules.remove_optional_bias_from_conv_rule,)),
    (("ConvTranspose",), (rules.remove_optional_bias_from_conv_transpose_rule,)),
    (("QLinearConv",), (rules.remove_optional_bias_from_qlinear_conv_rule,)),
    (("Gemm",), (rules.remove_optional_bias_from_gemm_rule,)),
)
RULES: tuple[RuleAt, ...] = tuple(_rules())
