"""Limits of flow files: what is equal to one passes, what is above is refused at once, in every form."""

import json
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import doubleweave as dw
from doubleweave import DEFAULT_PARSE_LIMITS, FlowParseLimits
from doubleweave.models.parse_limits import StructureError, check_structure
from flow_files_under_test import LINEAR, TEXTS, forms, read, refusal, refused, text_forms

OFF = FlowParseLimits.unlimited()


def only(**limits: int) -> FlowParseLimits:
    return FlowParseLimits(**{**{field.name: None for field in fields(OFF)}, **limits})


def test_flowparselimits_have_these_defaults() -> None:
    assert FlowParseLimits() == DEFAULT_PARSE_LIMITS
    assert (
        FlowParseLimits(
            max_bytes=5_242_880, max_nodes=100_000, max_depth=64, max_string_length=100_000, max_steps=1_000
        )
        == DEFAULT_PARSE_LIMITS
    )
    assert {getattr(OFF, field.name) for field in fields(OFF)} == {None}


def test_limits_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        DEFAULT_PARSE_LIMITS.max_steps = 5  # type: ignore[misc]  # what is refused


@pytest.mark.parametrize("field", [field.name for field in fields(OFF)])
@pytest.mark.parametrize("limit", [0, -1, 1.0, "9", True])
def test_a_limit_is_a_positive_integer_or_none(field: str, limit: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be a positive integer or None, got {limit!r}$"):
        FlowParseLimits(**{field: limit})


# For each limit: data for which the limit is just enough, the limit, and data for which it is not, and what is said of that.
EXTRA = {**LINEAR, "x": [[7, "seven", None]]}
EDGES: dict[str, tuple[dict[str, Any], int, dict[str, Any], str]] = {
    # The mapping, its four values, one step, its value, and the five of x.
    "max_nodes": (
        EXTRA,
        12,
        {**EXTRA, "y": None},
        "$.y is one value more than max_nodes=12 allows",
    ),
    "max_depth": (
        EXTRA,
        4,
        {**LINEAR, "x": [[7, ["seven"]]]},
        "$.x[0][1][0] is nested deeper than max_depth=4 allows",
    ),
    "max_string_length": (
        {**EXTRA, "description": "\u00e9" * 11},
        11,
        {**EXTRA, "description": "\u00e9" * 12},
        "$.description is a text of 12 characters, more than max_string_length=11 allows",
    ),
    "max_string_length of a key": (
        EXTRA,
        11,
        {**LINEAR, "x": [{"k" * 12: 1}]},
        "$.x[0] has a key of 12 characters, more than max_string_length=11 allows",
    ),
    "max_steps": (
        {**LINEAR, "steps": LINEAR["steps"] * 3},
        3,
        {**LINEAR, "steps": LINEAR["steps"] * 4},
        "$.steps has more steps than max_steps=3 allows",
    ),
}


@forms
@pytest.mark.parametrize("edge", EDGES)
def test_pl_1_pl_4_a_value_equal_to_the_limit_passes_and_one_above_fails(form: str, edge: str) -> None:
    fitting, limit, too_much, detail = EDGES[edge]
    limits = only(**{edge.split()[0]: limit})
    assert read(form, fitting, limits=limits) == read(form, fitting, limits=OFF)
    assert refused(form, too_much, source="s", limits=limits).detail == detail
    read(form, too_much, limits=OFF)


@text_forms
def test_pl_1_max_bytes_are_those_of_utf_8(form: str) -> None:
    write, reader = TEXTS[form]
    text = write(LINEAR).replace('""', '"\u00e9\U0001f600"')
    size = len(text.encode())
    assert size == len(text) + 4
    assert reader(text, limits=only(max_bytes=size)).description == "\u00e9\U0001f600"
    error = refusal(reader, text, source="s", limits=only(max_bytes=size - 1))
    assert error.detail == f"the text has more bytes than max_bytes={size - 1} allows"


def test_pl_4_max_bytes_do_not_count_in_a_dict() -> None:
    assert dw.flow_from_dict(LINEAR, limits=only(max_bytes=1)).name == "f"


@forms
def test_the_default_limits_are_used(form: str) -> None:
    for data, limit in (
        ({**LINEAR, "steps": LINEAR["steps"] * 1001}, "max_steps=1000"),
        ({**LINEAR, "name": "x" * 100_001}, "max_string_length=100000"),
        ({**LINEAR, "x": [0] * 100_000}, "max_nodes=100000"),
    ):
        assert limit in refused(form, data).detail
        read(form, data, limits=OFF)


LONG = 100_001
"""Characters of a JSON text that is counted before it is read."""
# What looks like structure and stands in strings.
tricky = st.text(st.sampled_from('",:[]{}\\ \n\u00e9x'), max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | tricky,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(tricky, children, max_size=4),
    max_leaves=20,
)


def nodes_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return 1 + sum(map(nodes_of, inner))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    value=st.dictionaries(tricky, json_values, max_size=4), indent=st.sampled_from([None, 0, "\t"]), ascii=st.booleans()
)
def test_pl_1_a_long_json_text_has_as_many_values_before_it_is_read_as_afterwards(
    value: dict[str, Any], indent: int | str | None, ascii: bool
) -> None:
    nodes = nodes_of(value)
    text = json.dumps(value, indent=indent, ensure_ascii=ascii, separators=(" ,\r\n", "\t: "))
    text = text.replace("[]", "[         ]").ljust(LONG)
    assert refusal(dw.flow_from_json, text, limits=only(max_nodes=nodes)).detail.startswith("Missing or invalid 'type'")
    if nodes > 1:
        error = refusal(dw.flow_from_json, text, limits=only(max_nodes=nodes - 1))
        assert error.detail == f"the text has more values than max_nodes={nodes - 1} allows"


def test_pl_1_as_many_strings_as_values_can_be_are_not_too_many() -> None:
    text = json.dumps({**LINEAR, "x": {f"{number}\\": '"' for number in range(20_000)}})
    assert len(text) > LONG
    assert dw.flow_from_json(text, limits=only(max_nodes=20_008)).name == "f"
    error = refusal(dw.flow_from_json, text, limits=only(max_nodes=20_007))
    assert error.detail == "the text has more values than max_nodes=20007 allows"


MANY = [0] * 100_000


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (json.dumps({**LINEAR, "x": MANY}), "the text has more values than max_nodes=100000 allows"),
        (json.dumps({**LINEAR, "x": MANY})[:-1], "the text has more values than max_nodes=100000 allows"),
        (json.dumps({**LINEAR, "x": ["", *MANY]}), "the text has more values than max_nodes=100000 allows"),
        ('{"a":' + "[" * 65 + "1" + "]" * 65 + ",1" * 9, "Invalid JSON: "),
        ('{"a":' * 200_000, "the text is nested deeper than max_depth=64 allows"),
        ('{"a":' + "[" * 63 + ",1" * 100_000, "the text has more values than max_nodes=100000 allows"),
        ('{"a":' + "[" * 64 + ",1" * 100_000, "the text is nested deeper than max_depth=64 allows"),
        (" \n" + json.dumps(MANY), "Expected a mapping at the top level, found list"),
        ("[" * 200_000, "Expected a mapping at the top level, found list"),
        ('"' + "," * 200_000 + '"', "Expected a mapping at the top level, found str"),
        ('"' + "," * 200_000, "Invalid JSON: Unterminated string"),
        ('{"a": "' + '[{,\\"' * 15_000 + '"}', "Missing or invalid 'type' discriminator"),
    ],
    ids=range(12),
)
def test_pl_2_a_json_text_of_too_many_values_is_refused_before_any_is_built(text: str, detail: str) -> None:
    assert refusal(dw.flow_from_json, text).detail.startswith(detail)


def test_pl_2_without_max_nodes_nothing_is_counted() -> None:
    assert dw.flow_from_json(json.dumps({**LINEAR, "x": MANY}), limits=FlowParseLimits(max_nodes=None)).name == "f"


class Counted(dict[str, Any]):
    """A mapping that counts how often it is looked into."""

    looks = 0

    def items(self) -> Any:
        Counted.looks += 1
        return super().items()


def test_pl_2_the_walk_stops_at_the_first_violation() -> None:
    shared: dict[str, Any] = Counted(a=1)
    for _ in range(60):  # 2 to the power of 60 values
        shared = Counted(a=shared, b=shared)
    Counted.looks = 0
    error = refusal(dw.flow_from_dict, {**LINEAR, "x": shared})
    assert error.detail.endswith("is one value more than max_nodes=100000 allows")
    assert Counted.looks < 100_000
    Counted.looks = 0
    assert refusal(dw.flow_from_dict, {**LINEAR, "x": shared}, limits=only(max_nodes=20)).detail.startswith("$.x.a")
    assert Counted.looks < 20


def test_pl_2_what_is_shared_is_counted_at_every_visit() -> None:
    leaf = ["x"]
    data = {**LINEAR, "x": [leaf, leaf, leaf]}
    dw.flow_from_dict(data, limits=only(max_nodes=7 + 1 + 3 + 3))
    error = refusal(dw.flow_from_dict, data, limits=only(max_nodes=7 + 1 + 3 + 3 - 1))
    assert error.detail == "$.x[2][0] is one value more than max_nodes=13 allows"


def test_pl_2_the_walk_uses_no_stack() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    check_structure(deep, only(max_nodes=200_000))
    with pytest.raises(StructureError, match=r"is nested deeper than max_depth=99999 allows$"):
        check_structure(deep, only(max_depth=99_999))


def test_what_contains_itself_comes_to_an_end_whichever_limits_are_on() -> None:
    data: dict[str, Any] = {**LINEAR}
    data["x"] = [data]
    assert "max_depth=64" in refusal(dw.flow_from_dict, data).detail
    assert "max_nodes=99" in refusal(dw.flow_from_dict, data, limits=only(max_nodes=99)).detail
    for limits in (OFF, only(max_string_length=20)):
        assert dw.flow_from_dict(data, limits=limits).name == "f"
    data["x"].append("x" * 21)
    detail = "$.x[1] is a text of 21 characters, more than max_string_length=20 allows"
    assert refusal(dw.flow_from_dict, data, limits=only(max_string_length=20)).detail == detail


def test_half_a_surrogate_pair_is_refused_whichever_limits_are_on() -> None:
    for limits in (OFF, DEFAULT_PARSE_LIMITS):
        error = refusal(dw.flow_from_dict, {**LINEAR, "name": "\ud800"}, limits=limits)
        assert error.detail == "$.name is a text of half a surrogate pair, which is no Unicode"
        for text in (r'{"a": "\ud800"}', '{"a": "\ud800"}'):
            error = refusal(dw.flow_from_json, text, limits=limits)
            assert error.detail == "$.a is a text of half a surrogate pair, which is no Unicode"
            assert refusal(dw.flow_from_yaml, text, limits=limits).detail.startswith("Invalid YAML: ")


@text_forms
# How deep parsers go, Python decides.
@pytest.mark.parametrize("count", [200_000, 800_000])
@pytest.mark.parametrize("opening", ["[", '{"a":', "[\n"])
def test_pl_3_what_is_nested_too_deep_for_the_parser_names_max_depth(form: str, count: int, opening: str) -> None:
    reader = TEXTS[form][1]
    text = '{"a": ' + opening * count
    error = refusal(reader, text, source="s")
    assert "max_depth=64" in error.detail
    assert error.__cause__ is not None


@text_forms
def test_pl_3_also_without_limits_and_when_it_is_closed(form: str) -> None:
    for count in (200_000, 1_000_000):
        error = refusal(TEXTS[form][1], '{"a": ' + "[" * count + "]" * count + "}", limits=OFF)
        assert error.detail == (f"Invalid {form.upper()}: it is nested deeper than the parser goes (max_depth=None)")
        assert isinstance(error.__cause__, Exception)
