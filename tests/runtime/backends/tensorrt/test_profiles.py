"""Profiles: consistent between axes, wide enough for every pass over one prefix, and an empty prefix allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankport.protos.errors import BackendError, InvalidRequest
from rankport.runtime.backends.layouts.packed import axes_of, rounded_packed
from rankport.runtime.backends.layouts.sizes import PassSizes
from rankport.runtime.backends.tensorrt.profile_limits import ProfileLimits
from rankport.runtime.backends.tensorrt.profiles import Profile, SizeRange, choose, profiles_for, sizes_of
from rankport.runtime.bundle.manifest import AxisRange, Role, TensorSpec

LARGEST = 2**31 - 1
AXES = {name: AxisRange(min=1, max=LARGEST) for name in ("tokens", "prefixes", "items", "items_total")} | {
    "item_tokens": AxisRange(min=1, max=512),
    "past": AxisRange(min=0, max=256),
    "embedding_count": AxisRange(min=1, max=LARGEST),
}


def spec(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="int64", shape=list(shape))


RANKER = (
    spec("input_ids", "tokens"),
    spec("slots", "prefixes", "items", "item_tokens"),
    spec("last_tokens", "items_total"),
    spec("past_key.0", "prefixes", 2, "past", 64),
    spec("embeddings", "embedding_count", 384),
    spec("kv_slots", 1),
)
ENCODER = (spec("input_ids", "items", "item_tokens"), spec("attention_mask", "items", "item_tokens"))


def sizes(prefixes: int, items: int, item_tokens: int, past: int = 0) -> dict[str, int]:
    """Of a full pass, as a device pads it."""
    tokens = prefixes * items * item_tokens
    return axes_of(
        rounded_packed(PassSizes(prefixes, items, item_tokens, past, tokens, prefixes * items, tokens))
    )


def test_a_scoring_graph_has_profiles_of_one_request_and_of_many() -> None:
    profiles = profiles_for(RANKER, ["score"], AXES, ProfileLimits(max_batch_tokens=8192))
    kinds = {profile.name.split("-")[0] for profile in profiles}
    assert kinds == {"latency", "throughput"}
    for profile in profiles:
        assert (profile.axes["prefixes"].max == 1) == profile.name.startswith("latency")
    # What is asked for: 250 items of 2 tokens for one query, the same for several, 50 items of 150 tokens.
    taken = [
        profiles[choose(profiles, sizes(*layout))].name.split("-")[0]
        for layout in ((1, 250, 2), (8, 250, 2), (1, 50, 150))
    ]
    assert taken == ["latency", "throughput", "latency"]


def test_a_graph_of_texts_has_the_profiles_of_an_encoder_whatever_its_role() -> None:
    limits = ProfileLimits(max_batch_tokens=8192)
    expected = profiles_for(ENCODER, ["encode"], AXES, limits)
    assert {profile.name.split("-")[0] for profile in expected} == {"latency", "throughput"}
    for role in ("represent-query", "score", "classify"):
        assert profiles_for(ENCODER, [role], AXES, limits) == expected


def test_the_roles_of_a_graph_decide_its_profiles() -> None:
    prefix = profiles_for(RANKER, ["prefix"], AXES)
    assert {profile.axes["items"].max for profile in prefix} == {1}
    joint = profiles_for(RANKER, ["prefix", "score"], AXES)
    assert {profile.name for profile in profiles_for(RANKER, ["score"], AXES)} < {p.name for p in joint}
    for graph in (prefix, joint):
        assert choose(graph, sizes(4, 1, 512) | {"kv_slots": 512}) is not None
    encoder = profiles_for(ENCODER, ["encode"], AXES)
    assert encoder[0].axes == {
        "items": SizeRange(min=1, opt=1, max=1),
        "item_tokens": SizeRange(min=1, opt=256, max=512),
    }
    assert max(profile.axes["items"].max for profile in encoder) == ProfileLimits().max_batch_tokens


limits = st.builds(
    ProfileLimits,
    max_batch_tokens=st.integers(1, 20_000),
    max_prefixes=st.integers(1, 40),
    max_padding_ratio=st.floats(1, 3),
)


@given(
    limits,
    st.sampled_from([("prefix",), ("score",), ("prefix", "score"), ("encode",)]),
    st.integers(1, 5000),
    st.integers(1, 4000),
)
def test_every_profile_is_consistent_between_its_axes(
    limits: ProfileLimits, roles: tuple[Role, ...], longest: int, past: int
) -> None:
    axes = AXES | {"item_tokens": AxisRange(min=1, max=longest), "past": AxisRange(min=0, max=past)}
    inputs = ENCODER if roles == ("encode",) else RANKER
    profiles = profiles_for(inputs, roles, axes, limits)
    assert len({profile.name for profile in profiles}) == len(profiles)
    for profile in profiles:
        for name, size in profile.axes.items():
            assert axes[name].min == size.min <= size.opt <= size.max
        # As a device pads the longest: by an eighth, or to eight.
        assert profile.axes["item_tokens"].max <= max(longest + longest // 8, longest + 8)
        if inputs is ENCODER:
            continue
        assert profile.axes["past"].min == 0
        assert past <= profile.axes["past"].max <= max(past + past // 8, past + 8)
        assert profile.axes["tokens"].max <= 17 / 16 * max(limits.max_batch_tokens, longest)
        for place in ("opt", "max"):
            at = {name: getattr(size, place) for name, size in profile.axes.items()}
            slots = at["prefixes"] * at["items"] * at["item_tokens"]
            assert at["tokens"] <= 17 / 16 * slots
            assert at["items_total"] <= 17 / 16 * min(at["tokens"], at["prefixes"] * at["items"]) + 1
            assert getattr(profile.values["kv_slots"], place) == at["items"] * at["item_tokens"]
        assert profile.values["kv_slots"].min == 0


@given(limits, st.integers(1, 20_000), st.integers(1, 512), st.integers(1, 1024), st.integers(0, 256))
def test_every_pass_over_one_prefix_within_the_limits_fits(
    limits: ProfileLimits, items: int, item_tokens: int, longest: int, past: int
) -> None:
    item_tokens = min(item_tokens, longest)
    most = max(limits.max_batch_tokens, longest)
    items = min(items, most, max(1, int(most * limits.max_padding_ratio) // item_tokens))
    tokens = max(item_tokens, items, min(items * item_tokens, most))
    if tokens > most or tokens - item_tokens < items - 1:
        return  # more than the limits allow, or fewer tokens than items
    axes = AXES | {"item_tokens": AxisRange(min=1, max=longest)}
    profiles = profiles_for(RANKER, ["score"], axes, limits)
    asked = axes_of(rounded_packed(PassSizes(1, items, item_tokens, past, tokens, items, tokens)))
    profile = profiles[choose(profiles, asked | {"kv_slots": asked["items"] * asked["item_tokens"]})]
    assert profile.name.startswith("latency")


def test_shapes_are_read_off_the_inputs_and_held_to_each_other() -> None:
    inputs = RANKER[:2]
    assert sizes_of(inputs, {"input_ids": (6,), "slots": (1, 2, 3)}) == {
        "tokens": 6,
        "prefixes": 1,
        "items": 2,
        "item_tokens": 3,
    }
    with pytest.raises(BackendError, match=r"slots has shape \[1, 2\], the graph takes"):
        sizes_of(inputs, {"input_ids": (6,), "slots": (1, 2)})
    twice = (spec("a", "tokens"), spec("b", "tokens", 4))
    with pytest.raises(BackendError, match=r"b has shape \[5, 4\]: tokens is 6 by the graph"):
        sizes_of(twice, {"a": (6,), "b": (5, 4)})
    with pytest.raises(BackendError, match="4 is 4 by the graph"):
        sizes_of(twice, {"a": (6,), "b": (6, 3)})


def test_a_pass_that_no_profile_takes_is_refused_with_every_profiles_reason() -> None:
    profiles = profiles_for(RANKER, ["score"], AXES, ProfileLimits(max_batch_tokens=100, max_prefixes=2))
    with pytest.raises(BackendError, match="no profile") as refused:
        choose(profiles, sizes(3, 1, 1))
    assert all(f"{profile.name}: prefixes 3 not in 1 to" in str(refused.value) for profile in profiles)


def test_shapes_of_an_input_come_from_its_axes() -> None:
    profile = Profile(name="p", axes={"past": SizeRange(min=0, opt=4, max=8)}, values={})
    assert profile.shapes(spec("past_key.0", 1, 2, "past", 64)) == (
        (1, 2, 0, 64),
        (1, 2, 4, 64),
        (1, 2, 8, 64),
    )


@pytest.mark.parametrize("name", ["max_batch_tokens", "max_prefixes", "max_padding_ratio"])
def test_a_limit_below_its_least_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{name} is 0: it must be at least 1"):
        ProfileLimits(**{name: 0})


def test_a_range_that_does_not_rise_is_refused() -> None:
    with pytest.raises(ValueError, match="must rise from min to max, is 3, 2, 4"):
        SizeRange(min=3, opt=2, max=4)
