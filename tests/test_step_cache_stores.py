"""Both step caches by one contract, their keys, and the files of one of them."""

import hashlib
import json
import math
import os
import pickle
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import doubleweave as dw
from doubleweave import FileStepCache, InMemoryStepCache, StepCache, StepCacheKey
from parity_scenarios import linear, step
from resume_under_test import LANES, Calls, execute, make_executor

Cache = InMemoryStepCache | FileStepCache


@pytest.fixture(params=["memory", "file"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    return InMemoryStepCache() if request.param == "memory" else FileStepCache(tmp_path / "cache")


def key(tool_name: str = "t", schema_hash: str = "s", input_value_hash: str = "i") -> StepCacheKey:
    return StepCacheKey(tool_name=tool_name, schema_hash=schema_hash, input_value_hash=input_value_hash)


# --- the contract of every cache ---


def test_it_is_a_step_cache(cache: Cache) -> None:
    assert isinstance(cache, StepCache)


def test_what_was_set_is_got_until_it_is_cleared(cache: Cache) -> None:
    assert cache.get(key()) is None
    cache.set(key(), {"n": 1, "deep": {"list": [1, None, "ä\u2028"]}})
    assert cache.get(key()) == {"n": 1, "deep": {"list": [1, None, "ä\u2028"]}}
    cache.set(key(), {})
    assert cache.get(key()) == {}
    cache.clear()
    cache.clear()
    assert cache.get(key()) is None


def test_keys_that_differ_in_any_part_are_apart(cache: Cache) -> None:
    keys = [key(), key("T2"), key("t/x"), key("t_x"), key("t x"), key(schema_hash="s2"), key(input_value_hash="i2")]
    for number, each in enumerate(keys):
        cache.set(each, {"number": number})
    assert [cache.get(each) for each in keys] == [{"number": number} for number in range(len(keys))]


def test_kept_values_are_isolated_from_later_changes(cache: Cache) -> None:
    output = {"n": 1}
    cache.set(key(), output)
    output["n"] = 2
    found = cache.get(key())
    assert found == {"n": 1}
    found["n"] = 3
    assert cache.get(key()) == {"n": 1}


def test_it_can_be_used_from_many_threads(cache: Cache) -> None:
    together, wrong = threading.Barrier(8), []

    def work(number: int) -> None:
        together.wait(timeout=10)
        for turn in range(20):
            cache.set(key("shared"), {"text": "x" * 500})
            cache.set(key(f"own-{number}"), {"turn": turn})
            if cache.get(key(f"own-{number}")) != {"turn": turn} or cache.get(key("shared")) != {"text": "x" * 500}:
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert wrong == []


def test_the_cache_in_memory_has_a_length() -> None:
    memory = InMemoryStepCache()
    for each in (key(), key(), key("u")):
        memory.set(each, {})
    assert len(memory) == 2


# --- keys ---


def test_a_key_is_frozen_and_has_a_digest() -> None:
    assert key("tool", "hash", "input").digest == "tool|hash|input"
    assert len({key(), key()}) == 1
    with pytest.raises(ValueError, match="frozen"):
        key().tool_name = "other"  # type: ignore[misc]  # that it is refused is the point


def test_the_input_hash_is_that_of_the_models_json_whatever_the_order_of_the_input() -> None:
    class Pair(BaseModel):
        b: int
        a: float = 0.5

    expected = hashlib.sha256(b'{"b":1,"a":2.0}').hexdigest()
    assert dw.compute_input_value_hash(Pair.model_validate({"a": 2, "b": 1})) == expected
    assert dw.compute_input_value_hash(Pair.model_validate({"b": 1, "a": 2})) == expected
    assert dw.compute_input_value_hash(Pair(b=1)) != expected


# --- files ---


@pytest.mark.parametrize("as_text", [True, False])
def test_the_folder_is_created_with_its_parents_and_holds_one_json_file_a_key(tmp_path: Path, as_text: bool) -> None:
    root = tmp_path / "x" / "y"
    cache = FileStepCache(str(root) if as_text else root)
    for _ in range(2):
        cache.set(key("my tool/ä.b-c_d", "0123", "abcd"), {"n": 1})
    digest = hashlib.sha256("my tool/ä.b-c_d".encode()).hexdigest()[:16]
    name = f"my_tool__.b-c_d.{digest}@0123@abcd.cache.json"
    assert os.listdir(root) == [name]
    assert json.loads((root / name).read_text()) == {"n": 1}
    assert FileStepCache(root).get(key("my tool/ä.b-c_d", "0123", "abcd")) == {"n": 1}


@pytest.mark.parametrize("name", ["../up", "/etc/x", "..", "a\x00b", "a\nb", "x" * 5000, "ä" * 300, ""])
def test_any_tool_name_makes_a_file_in_the_folder(tmp_path: Path, name: str) -> None:
    cache = FileStepCache(tmp_path / "root")
    each = key(name, "0" * 16, "1" * 64)
    cache.set(each, {"n": 1})
    assert cache.get(each) == {"n": 1}
    assert len(os.listdir(tmp_path / "root")) == 1
    assert os.listdir(tmp_path) == ["root"]


def test_what_json_cannot_hold_is_kept_as_its_text(tmp_path: Path) -> None:
    cache = FileStepCache(tmp_path)
    cache.set(key(), {"when": datetime(2024, 1, 2, tzinfo=UTC), "path": Path("/a"), "nan": math.nan})
    found = cache.get(key())
    assert found is not None
    assert str(found.pop("nan")) == "nan"
    assert found == {"when": "2024-01-02 00:00:00+00:00", "path": "/a"}


def test_clear_removes_the_files_of_the_cache_and_no_others(tmp_path: Path) -> None:
    cache = FileStepCache(tmp_path)
    (tmp_path / "t.snapshot.json").write_text("{}")
    cache.set(key(), {})
    cache.set(key("u"), {})
    cache.clear()
    assert os.listdir(tmp_path) == ["t.snapshot.json"]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = FileStepCache(tmp_path)
    loop: list[Any] = []
    loop.append(loop)
    cache.set(key(), {"n": 1})
    with pytest.raises(ValueError, match="Circular"):
        cache.set(key(), {"loop": loop})
    with pytest.raises(TypeError, match="keys must be"):
        cache.set(key(), {"table": {(1, 2): 3}})
    assert len(os.listdir(tmp_path)) == 1
    assert cache.get(key()) == {"n": 1}


def as_link(path: Path) -> None:
    target = path.parent / "elsewhere"
    path.rename(target)
    path.symlink_to(target)


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


BAD_FILES: dict[str, Callable[[Path], Any]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "not UTF-8": lambda path: path.write_bytes(b'{"n": "\xff"}'),
    "list": lambda path: path.write_text("[2]"),
    "null": lambda path: path.write_text("null"),
    "number": lambda path: path.write_text("2"),
    "nested too deeply": lambda path: path.write_text("[" * 99999),
    "pickled": lambda path: path.write_bytes(pickle.dumps({"n": 2})),
    "too long": lambda path: path.write_text('{"n": 2}' + " " * 1000),
    "symbolic link": as_link,
    "directory": as_directory,
    "FIFO": as_fifo,
}


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_cannot_be_read_is_a_miss(lane: str, kind: str, tmp_path: Path) -> None:
    cache, calls = FileStepCache(tmp_path, max_bytes=1000), Calls()
    executor = make_executor([linear(step("a"))], calls.tools("a"), step_cache=cache)
    execute(lane, executor)
    (path,) = tmp_path.iterdir()
    BAD_FILES[kind](path)
    if kind == "directory":
        with pytest.raises(OSError, match=r"cache\.json"):
            execute(lane, executor)
    else:
        again = execute(lane, executor)
        assert (again.execution_log[0].cached, again.final_output) == (False, {"n": 2})
        assert execute(lane, executor).execution_log[0].cached
    assert calls.names == ["a", "a"]
