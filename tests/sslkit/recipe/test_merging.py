"""Settings merge left to right, section by section."""

from hypothesis import given
from hypothesis import strategies as st

from sslkit.recipe.merging import merge, override

# As in recipes, a key is either a value or a section, the same in every file.
values = st.dictionaries(st.sampled_from("abc"), st.integers() | st.lists(st.integers()))
sections = st.recursive(
    values,
    lambda below: st.builds(
        lambda own, inner: {**own, **inner}, values, st.dictionaries(st.sampled_from("xyz"), below)
    ),
    max_leaves=8,
)


@given(sections, sections, sections)
def test_merging_is_associative_and_the_right_side_wins(a, b, c):
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a
    assert merge({}, a) == a
    for key, value in b.items():
        if not isinstance(value, dict):
            assert merge(a, b)[key] == value


def test_a_question_mark_touches_only_what_is_there():
    scale = {"heads?": {"prototypes?": {"out": 3}, "other?": {"out": 4}}}
    assert merge({"heads": {"prototypes": {"out": 1, "hidden": 2}}}, scale) == {
        "heads": {"prototypes": {"out": 3, "hidden": 2}}
    }
    assert merge({}, scale) == {}
    assert merge({"teacher": None}, {"teacher?": {"momentum": 1}}) == {"teacher": None}


def test_override_reads_yaml():
    assert override({}, "a.b=[1, 10%]") == {"a": {"b": [1, "10%"]}}
