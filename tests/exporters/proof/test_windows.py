"""Which windows a proof's samples are to cross, and how modes of such samples are named."""

import pytest

from rankport.exporters.proof.windows import answers_by_form, form_of, tokens_across, windows_to_cross


@pytest.mark.parametrize(
    ("windows", "sampled", "most", "crossed", "unseen"),
    [
        ([512], 2048, 8192, None, None),
        ([2044], 2048, 8192, 2044, None),  # too little of it is left behind
        ([2044], 2048, 2048, None, None),  # nothing longer may be asked
        ([3000, 4096, 5000, 9000], 2048, 8192, 4096, 5000),
        ([4096], 2048, 4096, None, None),  # it hides nothing
        ([5000], 5136, 8192, None, None),  # crossed as it is
        ([], 2048, 8192, None, None),
    ],
)
def test_the_longest_window_within_reach_is_crossed_and_the_next_is_not(
    windows: list[int], sampled: int, most: int, crossed: int | None, unseen: int | None
) -> None:
    assert windows_to_cross(windows, sampled, most) == (crossed, unseen)


@pytest.mark.parametrize(("window", "most", "tokens"), [(4096, 8192, 4608), (4096, 4200, 4200), (8, 64, 16)])
def test_an_eighth_of_a_window_lies_beyond_it(window: int, most: int, tokens: int) -> None:
    assert tokens_across(window, most) == tokens


def test_a_form_stands_behind_the_mode() -> None:
    answers = answers_by_form(lambda texts: {"alone": len(texts)}, {"": [1, 2], "beyond_window": [3]})
    assert answers == {"alone": 2, "alone/beyond_window": 1}
    assert [form_of(mode) for mode in answers] == ["", "beyond_window"]
