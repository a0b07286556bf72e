"""A folder with flow files and tools, and commands called in it as a user's shell would."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from doubleweave import set_schema_ref_policy
from doubleweave.cli import main, set_default_registry

TOOLS = """
from doubleweave import Tool, tool
from pydantic import BaseModel


class Number(BaseModel):
    value: int


class Order(BaseModel):
    value: int


@tool
def double(value: int) -> Number:
    return Number(value=value * 2)


@tool
async def increase(value: int) -> Number:
    return Number(value=value + 1)


@tool
def refuse(value: int) -> Number:
    raise RuntimeError(f"{value} is refused")


failures = []


@tool
def stumble(value: int) -> Number:
    failures.append(value)
    if len(failures) % 2:
        raise OSError("not yet")
    return Number(value=value)


again = double
"""
LINEAR = """
type: Flow
name: numbers
version: 1.2.0
description: Doubles and increases
steps:
  - tool_name: double
  - tool_name: increase
    input_mapping: {value: value}
"""
FAILING = """
type: Flow
name: failing
description: Is refused
steps:
  - tool_name: double
  - tool_name: refuse
"""
DAG = """
type: DAGFlow
name: choice
version: "1.0"
description: Chooses
steps:
  - step_id: first
    tool_name: double
    branches: [{target_step_id: big, predicate: "value > 10"}]
    default_next: small
  - step_id: big
    tool_name: increase
    depends_on: [first]
  - step_id: small
    tool_name: refuse
    depends_on: [first]
    on_error: skip
"""


@dataclass(frozen=True)
class Called:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Shell:
    """Calls commands in a folder of its own."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Called:
        self.capsys.readouterr()
        code = main(list(arguments))
        printed = self.capsys.readouterr()
        return Called(code, printed.out, printed.err)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    known = set(sys.modules)
    found = Shell(tmp_path, capsys)
    found.write("number_tools.py", TOOLS)
    found.write("numbers.flow.yaml", LINEAR)
    found.write("failing.flow.yaml", FAILING)
    found.write("choice.flow.yaml", DAG)
    yield found
    for name in set(sys.modules) - known:
        # Another test has another module of this name.
        if getattr(sys.modules[name], "__file__", None) and str(sys.modules[name].__file__).startswith(str(tmp_path)):
            del sys.modules[name]
    set_schema_ref_policy(None)
    set_default_registry(None)
