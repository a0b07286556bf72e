"""Texts made to hurt whoever reads them: each is refused quickly, by a limit or by name, with nothing imported or executed."""

import sys
import time
import tracemalloc
from collections.abc import Callable

import pytest
import yaml

import doubleweave as dw
from flow_files_under_test import TEXTS, refusal

SECONDS = 5
BYTES = 5_240_000
ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)

JSON_TEXTS: dict[str, Callable[[], str]] = {
    "nested lists": lambda: "[" * BYTES,
    "nested mappings": lambda: '{"a":' * (BYTES // 5),
    "nested as deep as parsers go": lambda: '{"a":' + "[" * 900 + "]" * 900 + "}",
    "many numbers": lambda: '{"a":[' + "1," * (BYTES // 2) + "1]}",
    "many empty lists": lambda: '{"a":[' + "[]," * (BYTES // 3) + "1]}",
    "many empty mappings": lambda: '{"a":[' + "{}," * (BYTES // 3) + "1]}",
    "many keys": lambda: "{" + ",".join(f'"k{i}":1' for i in range(BYTES // 13)) + "}",
    "many keys, the last one twice": lambda: "{" + ",".join(f'"k{i}":1' for i in range(400_000)) + ',"k399999":1}',
    "a duplicate key behind many values": lambda: '{"a":[' + "{}," * (BYTES // 3 - 9) + '{"b":1,"b":2}]}',
    "a very long integer": lambda: '{"a":' + "9" * BYTES + "}",
    "long integers": lambda: '{"a":[' + ("9" * 4300 + ",") * 1200 + "1]}",
    "a very long float": lambda: '{"a":' + "9" * BYTES + ".0}",
    "a very long text": lambda: '{"a":"' + "x" * BYTES + '"}',
    "a very long key": lambda: '{"' + "x" * BYTES + '":1}',
    "half surrogate pairs": lambda: '{"a":["' + '\\ud800","' * 500_000 + '"]}',
    "too many bytes": lambda: '{"a":' + " " * 50_000_000,
}
MOST_MEMORY = 35 * 2**20
"""Seven times the bytes of a text; its values would take more than twenty times as much."""


YAML_TEXTS: dict[str, Callable[[], str]] = {
    "exponential aliases": lambda: ALIASES,
    "exponential merge keys": lambda: "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nc: {<<: [*b, *b]}\n",
    "nested blocks": lambda: "- " * (BYTES // 2),
    "nested keys": lambda: "? " * (BYTES // 2),
    "nested lists on lines": lambda: "a: " + "[\n" * (BYTES // 2),
    "indented without end": lambda: "".join(" " * i + "a:\n" for i in range(3_000)),
    "lines of numbers": lambda: "a:\n" + "- 1\n" * (BYTES // 4),
    "lines of keys": lambda: "".join(f"k{i}: 1\n" for i in range(400_000)),
    "a number in base 60": lambda: "a: 1" + ":59" * (BYTES // 3),
    "numbers in base 60": lambda: "a:\n" + ("- 1" + ":59" * 1_400 + "\n") * 1_200,
    "a hexadecimal number": lambda: "a: 0x" + "f" * BYTES,
    "anchors": lambda: "a:\n" + "- &a x\n" * (BYTES // 7),
    "tags": lambda: "a:\n" + "- !!str x\n" * (BYTES // 10),
    "one long tag": lambda: "a: !" + "x" * BYTES,
    "documents": lambda: "---\n" * (BYTES // 4),
    "a comment": lambda: "#" * BYTES,
    "empty lines": lambda: "\n" * BYTES,
    "a long plain text": lambda: "a: " + "x " * (BYTES // 2),
    "a long quoted text": lambda: "a: '" + "x\n " * (BYTES // 3) + "'",
    "a long literal": lambda: "a: |\n" + " x\n" * (BYTES // 3),
    "escapes": lambda: 'a: "' + "\\x41" * (BYTES // 4) + '"',
    "keys without values": lambda: "{" + "a," * (BYTES // 2),
    "a call": lambda: "type: !!python/object/apply:os._exit [3]\n",
    "a call in a key": lambda: "!!python/object/apply:os._exit [3]: 1\n",
}


def assert_refused_quickly(form: str, text: str) -> None:
    loaded = set(sys.modules)
    start = time.thread_time()
    error = refusal(TEXTS[form][1], text)
    assert time.thread_time() - start < SECONDS
    assert len(error.detail) < 1_000
    assert set(sys.modules) == loaded


@pytest.fixture(autouse=True, scope="module")
def _parsers_are_imported() -> None:
    dw.flow_from_yaml(dw.flow_to_yaml(dw.Flow(name="f", description="", steps=[])))


@pytest.mark.parametrize("name", JSON_TEXTS)
def test_pl_2_hostile_json_is_refused_quickly(name: str) -> None:
    assert_refused_quickly("json", JSON_TEXTS[name]())


@pytest.mark.parametrize("name", [*YAML_TEXTS, *JSON_TEXTS])
def test_pl_2_hostile_yaml_is_refused_quickly(name: str) -> None:
    assert_refused_quickly("yaml", (YAML_TEXTS | JSON_TEXTS)[name]())


@pytest.mark.parametrize("name", JSON_TEXTS)
def test_pl_2_hostile_json_is_refused_in_little_memory(name: str) -> None:
    text = JSON_TEXTS[name]()
    tracemalloc.start()
    try:
        refusal(dw.flow_from_json, text)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


SLOWER = [
    "exponential aliases",
    "nested blocks",
    "nested keys",
    "indented without end",
    "nested lists",
    "documents",
    "a call",
]


@pytest.mark.parametrize("name", SLOWER)
def test_pl_2_so_it_is_by_the_parser_in_python(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert_refused_quickly("yaml", (YAML_TEXTS | JSON_TEXTS)[name]())


def test_a_few_lines_of_aliases_are_refused_before_anything_is_built() -> None:
    assert len(ALIASES) < 500
    error = refusal(dw.flow_from_yaml, ALIASES, limits=dw.FlowParseLimits.unlimited())
    assert error.detail.startswith("Invalid YAML: line 2, column 10: the alias *a0 is refused")
    assert "max_nodes" in error.detail
