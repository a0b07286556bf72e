"""YAML flow files mean what the JSON file with the same content means, whichever parser `pyyaml` has."""

import builtins
import json
import sys
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import doubleweave as dw
from doubleweave.models.parse_limits import FlowParseLimits
from doubleweave.models.yaml_text import dump_yaml, parse_yaml
from flow_files_under_test import FULL, LINEAR, constants, refusal

OFF = FlowParseLimits.unlimited()
quick = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
loaders = pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
C_LOADER = yaml.CSafeLoader


def parsed(text: str, loader: str, limits: FlowParseLimits = OFF) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        if loader == "SafeLoader":
            patch.delattr(yaml, "CSafeLoader")
        return parse_yaml(text, limits)


def test_the_parser_in_c_is_there_to_be_tested() -> None:
    assert yaml.__with_libyaml__
    assert C_LOADER is not None


@loaders
@quick
@given(value=constants)
def test_what_is_written_is_read_back_by_both_parsers(loader: str, value: Any) -> None:
    text = dump_yaml(value)
    assert text.isascii()
    assert json.dumps(parsed(text, loader)) == json.dumps(value, sort_keys=True)


plain_texts = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=9)
without_exponent = st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: "e" not in repr(number))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | without_exponent | plain_texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(plain_texts, children, max_size=3),
    max_leaves=8,
)


@loaders
@quick
@given(value=json_values)
def test_json_is_read_as_yaml_to_the_same_value(loader: str, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert json.dumps(parsed(text, loader)) == json.dumps(value)


@loaders
@pytest.mark.parametrize("character", ["\ufeff", "\x85", "\u2028", "\u2029"])
def test_what_would_not_be_read_as_json_reads_it_is_refused(loader: str, character: str) -> None:
    text = f'a: "x{character}y"'
    with pytest.raises(ValueError, match="stands in the text, which YAML drops or takes for the end of a line"):
        parsed(text, loader)
    assert parsed(text.replace(character, f"\\u{ord(character):04x}"), loader) == {"a": f"x{character}y"}


def test_flow_to_yaml_is_block_style_with_sorted_keys() -> None:
    lines = dw.flow_to_yaml(FULL).splitlines()
    top = [line.split(":")[0] for line in lines if line[0].isalpha()]
    assert top == sorted(dw.flow_to_dict(FULL))
    assert "- branches:" in lines
    assert "  - predicate: n > 2" in lines
    assert lines == yaml.safe_dump(dw.flow_to_dict(FULL), default_flow_style=False, sort_keys=True).splitlines()


def test_flow_to_yaml_writes_no_aliases() -> None:
    shared = ["a", "b"]
    step = dw.FlowStep(tool_name="t", input_mapping={"x": shared, "y": shared, "z": [shared]})
    flow = dw.Flow(name="f", description="", steps=[step, step])
    text = dw.flow_to_yaml(flow)
    assert "&" not in text
    assert "*" not in text
    assert dw.flow_from_yaml(text) == flow


@pytest.mark.parametrize("call", [lambda: dw.flow_to_yaml(FULL), lambda: dw.flow_from_yaml(json.dumps(LINEAR))])
def test_fl_5_pyyaml_is_imported_by_each_call(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    call()
    asked: list[str] = []
    real = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name == "yaml":
            asked.append(name)
            raise ImportError("no yaml here")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for count in (1, 2):
        with pytest.raises(dw.FlowSerializationError, match=r'pyyaml: pip install "doubleweave\[yaml\]"\.$') as caught:
            call()
        assert str(caught.value.__cause__) == "no yaml here"
        assert len(asked) == count
    monkeypatch.undo()
    call()


def test_fl_5_json_needs_no_pyyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert dw.flow_from_json(dw.flow_to_json(FULL)) == FULL


TAGS = [
    ("!!python/object/apply:os.system ['exit 3']", "!!python/object/apply:os.system"),
    ("!!python/object/new:subprocess.Popen [[ls]]", "!!python/object/new:subprocess.Popen"),
    ("!!python/module:antigravity ''", "!!python/module:antigravity"),
    ("!!python/tuple [1]", "!!python/tuple"),
    ("!<tag:yaml.org,2002:python/name:os.system> ''", "!!python/name:os.system"),
    ("!mine {a: 1}", "!mine"),
    ("!mine x", "!mine"),
]


@loaders
@pytest.mark.parametrize(("text", "tag"), TAGS)
def test_fl_5_no_tag_is_carried_out_even_if_a_program_has_taught_it_to_the_loaders(
    loader: str, text: str, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []
    for each in (yaml.SafeLoader, yaml.CSafeLoader):
        monkeypatch.setattr(each, "yaml_constructors", dict(each.yaml_constructors))
        each.add_constructor("!mine", lambda *given: built.append(given))
        each.add_multi_constructor("tag:yaml.org,2002:python/", lambda *given: built.append(given))
    loaded = set(sys.modules)
    with pytest.raises(
        ValueError, match=rf"^line 1, column 4: .*{tag.replace('.', '[.]')}.* is|^line 1, column 4: {tag} is"
    ):
        parsed(f"a: {text}", loader)
    assert built == []
    assert set(sys.modules) == loaded


MEANINGS: list[tuple[str, Any]] = [
    ("yes", True),
    ("Off", False),
    ("~", None),
    ("", None),
    ("012", 10),
    ("0x1F", 31),
    ("0b11", 3),
    ("1_000", 1000),
    ("1:30", 90),
    ("-4", -4),
    ("+4", 4),
    ("1.5", 1.5),
    (".5", 0.5),
    ("1.0e+3", 1000.0),
    ("1e3", "1e3"),
    ("1.5e3", "1.5e3"),
    ("0o7", "0o7"),
    ("'yes'", "yes"),
    ('"2024-01-31"', "2024-01-31"),
    ("!!str 5", "5"),
    ("!!float 5", 5.0),
    ("!!int '5'", 5),
    ("!!float 1.5", 1.5),
    ("!!null ~", None),
    ("!!null", None),
    ("!!null 'NULL'", None),
    ("!!bool 'no'", False),
    ("! 5", "5"),
    ("! yes", "yes"),
    ("! ~", "~"),
    ("! 2024-01-31", "2024-01-31"),
    ("! {b: 1}", {"b": 1}),
    ("! [1]", [1]),
    ("&a x", "x"),
    ("!!map {b: 1}", {"b": 1}),
    ("!!seq [1]", [1]),
    ("{}", {}),
    ("[]", []),
    ("|\n  one\n  two\n", "one\ntwo\n"),
    (">-\n  one\n  two\n", "one two"),
    ("{'yes': 1, \"1\": 2}", {"yes": 1, "1": 2}),
    ("[[], {b: [1, {c: 2}]}, 3]", [[], {"b": [1, {"c": 2}]}, 3]),
]


@loaders
@pytest.mark.parametrize(("text", "meaning"), MEANINGS)
def test_what_json_can_say_is_read_as_yaml_1_1_writes_it(loader: str, text: str, meaning: Any) -> None:
    found = parsed(f"a: {text}", loader)
    assert found == {"a": meaning}
    assert type(found["a"]) is type(meaning)
    assert json.loads(json.dumps(found)) == found


REFUSED = [
    ("2024-01-31", "line 1, column 4: '2024-01-31' is read as !!timestamp"),
    ("2024-01-31T10:00:00Z", "line 1, column 4: '2024-01-31T10:00:00Z' is read as !!timestamp"),
    ("=", "line 1, column 4: '=' is read as !!value"),
    ("[1, <<]", "line 1, column 8: '<<' is read as !!merge"),
    (".inf", "line 1, column 4: '.inf' is inf, which is not a JSON number"),
    ("-.INF", "line 1, column 4: '-.INF' is -inf, which is not a JSON number"),
    (".NaN", "line 1, column 4: '.NaN' is nan, which is not a JSON number"),
    ("1.0e+999", "line 1, column 4: '1.0e+999' is inf, which is not a JSON number"),
    ("!!int ''", "line 1, column 4: '' is no !!int"),
    ("!!bool maybe", "line 1, column 4: 'maybe' is no !!bool"),
    ("!!bool 1", "line 1, column 4: '1' is no !!bool"),
    ("!!float x", "line 1, column 4: 'x' is no !!float"),
    ("!!float 1e3", "line 1, column 4: '1e3' is no !!float"),
    ("!!int 1.0", "line 1, column 4: '1.0' is no !!int"),
    ("!!int ' 1 '", "line 1, column 4: ' 1 ' is no !!int"),
    ("!!null foo", "line 1, column 4: 'foo' is no !!null"),
    ("!!null 0", "line 1, column 4: '0' is no !!null"),
    ("[!!null 'x y']", "line 1, column 5: 'x y' is no !!null"),
    ("1" + ":59" * 200 + ".5", f"line 1, column 4: '1{':59' * 26}:' is no !!float"),
    ("-1" + ":59" * 200 + ".5", f"line 1, column 4: '-1{':59' * 26}' is no !!float"),
    ("1" + ":59" * 4000 + ".5", "line 1, column 4: a number is longer than 4300 characters"),
    ("9" * 4301, "line 1, column 4: a number is longer than 4300 characters"),
    ("0x" + "f" * 4000, f"line 1, column 4: '0x{'f' * 78}' is an integer of more than 4300 digits"),
    ("1" + ":59" * 4000, "line 1, column 4: a number is longer than 4300 characters"),
    ("!!seq {}", "line 1, column 4: !!seq is none of the types that JSON has"),
    ("!!map []", "line 1, column 4: !!map is none of the types that JSON has"),
    ("!!pairs [b: 1]", "line 1, column 4: !!pairs is none of the types that JSON has"),
    ("{b: 1, c: 2, b: 3}", "line 1, column 17: the key 'b' stands twice in $.a"),
    ("[1, {b: 1, 'b': 3}]", "line 1, column 15: the key 'b' stands twice in $.a[1]"),
    ("{{b: 1}: 2}", "line 1, column 5: a key is of the type dict, and keys are texts: put it in quotes"),
    ("{1.5: 2}", "line 1, column 5: a key is of the type float, and keys are texts: put it in quotes"),
    ("&x [1, *x]", "line 1, column 11: the alias *x is refused"),
    ("{&k b: 1, *k : 2}", "line 1, column 14: the alias *k is refused"),
]


@loaders
@pytest.mark.parametrize(("text", "fault"), REFUSED, ids=range(len(REFUSED)))
def test_what_json_cannot_say_is_refused_with_its_line(loader: str, text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=r"^line 1, column ") as caught:
        parsed(f"a: {text}", loader)
    assert str(caught.value).startswith(fault)


def test_an_alias_says_what_to_do_and_an_anchor_alone_does_no_harm() -> None:
    text = "type: Flow\nname: &name f\ndescription: ''\nsteps: []\n"
    assert dw.flow_from_yaml(text).name == "f"
    error = refusal(dw.flow_from_yaml, text.replace("''", "*name"), source="s", limits=OFF)
    assert error.detail == (
        "Invalid YAML: line 3, column 14: the alias *name is refused, since a few aliases can stand for any number of values "
        "(max_nodes): write the value out"
    )


WORDS = [
    *(
        "a",
        "b",
        "1",
        "true",
        "~",
        "<<",
        "0x1",
        "2020-01-01",
        ".inf",
        "1:30",
        "&x ",
        "*x",
        "!!str",
        "!!int",
        "!t",
        "[",
        "]",
    ),
    *("{", "}", ",", "'", '"', "\\", "%", "@", "`", ":", "-"),
]
SPACED = [
    ": ",
    "- ",
    "? ",
    "# c",
    "\n",
    "  ",
    " ",
    "|\n",
    ">\n",
    "---\n",
    "...\n",
    "a: b\n",
    "\u00e9",
    "\x00",
    "\ud800",
]
pieces = st.sampled_from([*WORDS, *SPACED])


@settings(quick, max_examples=2000)
@given(text=st.lists(pieces, max_size=14).map("".join))
def test_what_both_parsers_accept_means_the_same_and_nothing_else_is_raised(text: str) -> None:
    found = []
    for loader in ("CSafeLoader", "SafeLoader"):
        try:
            found.append(json.dumps(parsed(text, loader, FlowParseLimits()), allow_nan=False))
        except ValueError:
            continue
    assert len(set(found)) <= 1


@pytest.mark.parametrize(
    ("limits", "read_up_to"),
    [({"max_nodes": 10}, 16), ({"max_depth": 2}, 6), ({"max_string_length": 4}, 5), ({"max_steps": 3}, 11)],
)
def test_pl_2_yaml_is_read_no_further_than_the_first_violation(
    limits: dict[str, int], read_up_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    real = yaml.parse

    def counting(*args: Any, **options: Any) -> Any:
        for event in real(*args, **options):
            seen.append(event)
            yield event

    monkeypatch.setattr(yaml, "parse", counting)
    text = "steps:\n- one\n" + "- 2\n- [3]\n" * 1000
    error = refusal(dw.flow_from_yaml, text, limits=FlowParseLimits(**limits))
    assert next(iter(limits)) in error.detail
    assert len(seen) == read_up_to
