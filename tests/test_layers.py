"""Which layer may import which, and what it may not use, read off the syntax trees: imports inside functions count too."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "doubleweave"
BELOW_THE_LANES = {"errors", "models", "core", "_lanes"}
# Every module and folder at the top of the package, and which of them it may import, itself apart.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "models": {"errors"},
    "core": {"errors", "models"},
    "_lanes": {"errors", "models", "core"},
    "_async": BELOW_THE_LANES,
    "_sync": BELOW_THE_LANES,
    "flow": {"errors", "models"},
    "tools": BELOW_THE_LANES,
    "decorators": {"errors", "models", "tools"},
    "checking": {"errors", "models", "core"},
    "plugins": {"errors", "models"},
    "stores": {"errors", "models"},
    "integrations": {"errors", "models"},
    "registry": {"errors", "models", "plugins", "stores"},
    "executor": BELOW_THE_LANES | {"_async", "_sync", "flow", "plugins", "registry", "tools"},
    "__init__": BELOW_THE_LANES
    | {
        "attest",
        "checking",
        "decorators",
        "tools",
        "executor",
        "flow",
        "fuzz",
        "pages",
        "plugins",
        "registry",
        "stores",
        "testing",
    },
    "export": {"errors", "executor", "models", "tools"},
    "contrib": {"decorators", "errors", "executor", "models", "tools"},
    "testing": BELOW_THE_LANES | {"_sync", "executor", "registry", "stores", "tools"},
    "attest": {"errors", "executor", "models", "testing"},
    "fuzz": {"attest", "errors", "executor", "models", "testing", "tools"},
    "cli": BELOW_THE_LANES
    | {"__init__", "attest", "executor", "flow", "fuzz", "mcp", "pages", "registry", "stores", "tools"},
    "mcp": BELOW_THE_LANES | {"executor", "export", "tools"},
    "pages": {"errors", "models"},
    "__main__": {"cli"},
    "examples": {"__init__", "errors", "executor", "flow", "mcp"},
}
WAITING = {"asyncio", "threading", "queue", "concurrent"}
MAY_WAIT = {"_lanes", "tools", "stores", "integrations", "testing", "examples", "cli", "mcp", "pages"}
# Live pages are served to browsers, under an address that nobody can guess.
MAY_SERVE = {"pages"}
SERVING = {"http", "secrets", "socket"}
# What they draw comes from a seed that they are given, and no run depends on it.
MAY_DRAW = {"attest", "fuzz"}
OUTSIDE_WORLD = {
    *("random", "secrets", "socket", "http", "urllib"),
    *("requests", "httpx", "aiohttp", "openai", "anthropic"),
}
NOT_IN_CORE = {"time", "uuid", "os", "io", "pathlib", "subprocess"}
CLOCKS = re.compile(r"(datetime\.)?(datetime|date)\.(now|utcnow|today)")
INPUT_AND_OUTPUT = {"open", "print", "input"}
FOREIGN_TWIN = {"_async": re.compile("Sync[A-Z]"), "_sync": re.compile("Async[A-Z]")}


def faults_of(package: Path) -> list[str]:
    found = []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [f"{name.as_posix()}: {fault}" for fault in faults(name.parts[0].removesuffix(".py"), tree)]
    return found


def faults(layer: str, tree: ast.Module) -> Iterator[str]:
    if layer not in ALLOWED:
        yield f"{layer} has no place in the table of layers"
        return
    retries = layer == "models" and any(isinstance(n, ast.ClassDef) and n.name == "RetryPolicy" for n in tree.body)
    draws = retries or layer in MAY_DRAW
    for node in ast.walk(tree):
        for module in imports(node):
            top, _, rest = module.partition(".")
            serves = layer in MAY_SERVE and top in SERVING
            below = rest.split(".")[0]
            target = below if below in ALLOWED else "__init__"
            if top == "doubleweave":
                forbidden = target != layer and target not in ALLOWED[layer]
            else:
                forbidden = (
                    (top in WAITING and layer not in MAY_WAIT)
                    or (top in OUTSIDE_WORLD and layer != "examples" and not (top == "random" and draws) and not serves)
                    or (top in NOT_IN_CORE and layer == "core")
                )
            # A lane cannot name itself in full, for its source is both lanes.
            beside = layer in FOREIGN_TWIN and re.fullmatch(r"\.\w+", module)
            if forbidden or (top == "" and not beside):
                yield f"imports {module}"
        if layer == "core":
            yield from effects(node)
        if layer in FOREIGN_TWIN:
            yield from (f"uses {name}" for name in names(node) if FOREIGN_TWIN[layer].match(name))


def imports(node: ast.AST) -> list[str]:
    """Return what a node imports, by full name; an import whose module is a literal string counts, a relative one too."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        return [f"{module}.{alias.name}" for alias in node.names] if module == "doubleweave" else [module]
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
        return [str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
    return []


def effects(node: ast.AST) -> Iterator[str]:
    """Yield how a node waits, reads a clock, or reads or writes anything."""
    if isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await):
        yield "waits"
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if CLOCKS.fullmatch(called) or called in INPUT_AND_OUTPUT:
            yield f"calls {called}"


def names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.alias):
        return [node.name]
    return []


def test_the_package_keeps_to_its_layers() -> None:
    assert faults_of(PACKAGE) == []


def test_the_table_names_nothing_that_is_gone() -> None:
    assert set(ALLOWED) == {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}


DIRECTION = [
    ("errors.py", "from doubleweave.models import x", "imports doubleweave.models"),
    ("models/a.py", "from doubleweave.core.plan import Plan", "imports doubleweave.core.plan"),
    ("models/a.py", "import doubleweave", "imports doubleweave"),
    ("models/a.py", "from doubleweave import core", "imports doubleweave.core"),
    ("models/a.py", "from doubleweave import Flow", "imports doubleweave.Flow"),
    ("core/a.py", "def f():\n    import doubleweave._lanes.calls", "imports doubleweave._lanes.calls"),
    ("core/a.py", "import importlib\nimportlib.import_module('doubleweave._sync')", "imports doubleweave._sync"),
    ("_lanes/a.py", "from doubleweave._async.executor import f", "imports doubleweave._async.executor"),
    ("_lanes/a.py", "from doubleweave.executor import f", "imports doubleweave.executor"),
    ("_async/a.py", "from doubleweave._sync.executor import x", "imports doubleweave._sync.executor"),
    ("_sync/a.py", "if TYPE_CHECKING:\n    from doubleweave._async import executor", "imports doubleweave._async"),
    ("flow/__init__.py", "from doubleweave.tools import Tool", "imports doubleweave.tools"),
    ("executor.py", "import doubleweave.examples.audit", "imports doubleweave.examples.audit"),
    ("examples/a.py", "from doubleweave._sync.executor import f", "imports doubleweave._sync.executor"),
    ("core/a.py", "from . import b", "imports ."),
    ("core/deep/a.py", "from ..b import c", "imports ..b"),
    ("_async/a.py", "from .._sync.b import c", "imports .._sync.b"),
    ("news.py", "", "news has no place in the table of layers"),
]
WAITERS = [
    (path, f"import {module}", f"imports {module}")
    for path in ("errors.py", "models/a.py", "core/a.py", "_async/a.py", "_sync/a.py", "executor.py", "flow/a.py")
    for module in ("asyncio", "asyncio.tasks", "threading", "queue", "concurrent.futures")
]
DETERMINISM = [
    (path, f"from {module} import x", f"imports {module}")
    for path in ("core/a.py", "_lanes/a.py", "_async/a.py", "_sync/a.py", "executor.py", "models/a.py")
    for module in (*sorted(OUTSIDE_WORLD), "urllib.request")
]
CORE = [
    *(("core/a.py", f"def f():\n    import {module}", f"imports {module}") for module in sorted(NOT_IN_CORE)),
    ("core/a.py", "import os.path", "imports os.path"),
    ("core/a.py", "__import__('time')", "imports time"),
    ("core/a.py", "datetime.now(UTC)", "calls datetime.now"),
    ("core/a.py", "datetime.datetime.utcnow()", "calls datetime.datetime.utcnow"),
    ("core/a.py", "date.today()", "calls date.today"),
    ("core/a.py", "open('x')", "calls open"),
    ("core/a.py", "print('x')", "calls print"),
    ("core/a.py", "async def f(): pass", "waits"),
]
TWINS = [
    ("_async/a.py", "from doubleweave._lanes.locks import SyncLock", "uses SyncLock"),
    ("_async/a.py", "SyncLock()", "uses SyncLock"),
    ("_sync/a.py", "locks.AsyncLock()", "uses AsyncLock"),
]
RANDOM = [
    ("models/a.py", "import random\nclass Flow: pass", "imports random"),
    ("core/a.py", "import random\nclass RetryPolicy: pass", "imports random"),
    ("models/a.py", "import secrets\nclass RetryPolicy: pass", "imports secrets"),
    ("testing/a.py", "import random", "imports random"),
    ("fuzz/a.py", "import secrets", "imports secrets"),
    ("pages/a.py", "import requests", "imports requests"),
    ("pages/a.py", "from doubleweave.executor import FlowExecutor", "imports doubleweave.executor"),
    ("executor.py", "from doubleweave.fuzz import FlowFuzzer", "imports doubleweave.fuzz"),
]


def write(package: Path, path: str, text: str) -> None:
    (package / path).parent.mkdir(parents=True, exist_ok=True)
    (package / path).write_text(text)


@pytest.mark.parametrize(("path", "text", "fault"), [*DIRECTION, *WAITERS, *DETERMINISM, *CORE, *TWINS, *RANDOM])
def test_a_module_that_leaves_its_layer_is_found(path: str, text: str, fault: str, tmp_path: Path) -> None:
    write(tmp_path, "errors.py", "class DoubleweaveError(Exception): pass")
    write(tmp_path, path, text)
    assert faults_of(tmp_path) == [f"{path}: {fault}"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("models/a.py", "from doubleweave.models.b import c\nfrom doubleweave.errors import d\nimport time, uuid"),
        ("models/a.py", "import random\nclass RetryPolicy: pass"),
        ("attest/a.py", "import random\nfrom doubleweave.executor import FlowExecutor"),
        ("fuzz/a.py", "import random\nfrom doubleweave.attest.values import generate_value"),
        ("pages/a.py", "import secrets, threading\nfrom http.server import ThreadingHTTPServer"),
        ("testing/a.py", "from threading import Lock\nfrom doubleweave._sync.executor import drive"),
        (
            "core/a.py",
            "from datetime import datetime\nx = run.now()\ny = datetime(2020, 1, 1)\nimportlib.import_module(z)",
        ),
        ("_lanes/a.py", "import asyncio, threading, queue, concurrent.futures, time\nclass SyncLock(AsyncLock): pass"),
        ("_async/a.py", "from doubleweave._lanes.locks import AsyncLock\nfrom doubleweave._async.b import c"),
        ("_sync/a.py", "from .b import c"),
        ("executor.py", "from doubleweave._async.executor import f\nfrom doubleweave._sync.executor import f as g"),
        ("examples/a.py", "import asyncio, random, urllib.request\nfrom doubleweave import Flow"),
    ],
)
def test_a_module_that_keeps_to_its_layer_is_not(path: str, text: str, tmp_path: Path) -> None:
    write(tmp_path, path, text)
    assert faults_of(tmp_path) == []
