"""The public names: where they come from, and that asking for one imports what it needs and no more."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import doubleweave


def declared() -> dict[str, str]:
    """Return the names that type checkers see, each with its module."""
    tree = ast.parse(Path(str(doubleweave.__file__)).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }


def test_what_type_checkers_see_is_what_there_is() -> None:
    assert sorted(declared()) == doubleweave.__all__
    for name, module in declared().items():
        assert getattr(doubleweave, name) is getattr(import_module(module), name), name


def test_the_listing_has_every_name() -> None:
    assert set(doubleweave.__all__) <= set(dir(doubleweave))
    assert {"errors", "executor", "flow", "stores"} <= set(dir(doubleweave))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'doubleweave' has no attribute 'FlowExecuter'$"):
        _ = doubleweave.FlowExecuter  # type: ignore[attr-defined]  # a slip of the pen
    with pytest.raises(ImportError, match="cannot import name 'FlowExecuter' from 'doubleweave'"):
        exec("from doubleweave import FlowExecuter")


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import doubleweave", "pydantic"),
        ("import doubleweave; doubleweave.__version__", "pydantic"),
        ("import doubleweave; doubleweave.FlowExecutionError", "asyncio"),
        ("import doubleweave; doubleweave.FlowExecutor", "doubleweave.stores.traces"),
        ("import doubleweave; doubleweave.FlowExecutor", "jsonschema"),
    ],
)
def test_what_is_not_asked_for_is_not_imported(code: str, absent: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint({absent!r} in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "False\n"


def test_modules_are_there_without_being_imported_by_name() -> None:
    code = "import doubleweave\nprint(doubleweave.executor.FlowExecutor is doubleweave.FlowExecutor)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"


def test_a_star_import_brings_every_name() -> None:
    names: dict[str, object] = {}
    exec("from doubleweave import *", names)
    assert set(doubleweave.__all__) <= names.keys()
