"""Which layer may import which, read off the syntax trees: imports inside functions count too."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "doubleweave"
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "models": {"errors", "models"},
    "flow": {"models"},
    "core": {"errors", "models", "core"},
    "_lanes": {"errors", "models", "core", "_lanes"},
    "_async": {"errors", "models", "core", "_lanes", "_async"},
    "_sync": {"errors", "models", "core", "_lanes", "_sync"},
}
LANES_ONLY = {"asyncio", "threading", "queue", "concurrent"}
NOT_IN_CORE = {"time", "random", "secrets", "uuid", "socket", "os", "io", "pathlib", "subprocess"}
NEVER_IN_A_RUN = {
    "random",
    "secrets",
    "socket",
    "http",
    "urllib",
    "requests",
    "httpx",
    "aiohttp",
    "openai",
    "anthropic",
}


def imported_by(text: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            names.add(node.module or "")
    return names


def faults(layer: str, text: str) -> list[str]:
    found = []
    for name in sorted(imported_by(text)):
        parts = name.split(".")
        if parts[0] == "doubleweave":
            # The package root stands above every layer.
            if parts[1:] == [] and layer not in ALLOWED:
                continue
            if len(parts) == 1 or parts[1] not in ALLOWED.get(layer, {parts[1]}):
                found.append(f"{layer} imports {name}")
        elif (
            (parts[0] in LANES_ONLY and layer in ALLOWED and layer != "_lanes")
            or (parts[0] in NOT_IN_CORE and layer == "core")
            or (parts[0] in NEVER_IN_A_RUN and layer in ("core", "_lanes", "_async", "_sync", "executor"))
        ):
            found.append(f"{layer} imports {name}")
    return found


def test_every_module_imports_only_layers_below_its_own() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found += [f"{path.name}: {fault}" for fault in faults(layer, path.read_text())]
    assert found == []


def test_only_the_retry_policy_draws_random_numbers() -> None:
    users = [path.name for path in (PACKAGE / "models").glob("*.py") if "random" in imported_by(path.read_text())]
    assert users == ["steps.py"]


@pytest.mark.parametrize(
    ("layer", "text", "fault"),
    [
        ("models", "from doubleweave.core.plan import Plan", "models imports doubleweave.core.plan"),
        ("core", "def f():\n    import doubleweave._lanes.calls", "core imports doubleweave._lanes.calls"),
        ("core", "import time", "core imports time"),
        ("core", "import asyncio", "core imports asyncio"),
        ("_async", "import threading", "_async imports threading"),
        ("_async", "from doubleweave._sync.executor import x", "_async imports doubleweave._sync.executor"),
        (
            "_sync",
            "if TYPE_CHECKING:\n    from doubleweave._async import executor",
            "_sync imports doubleweave._async",
        ),
        ("core", "from doubleweave import Flow", "core imports doubleweave"),
        ("_lanes", "import httpx", "_lanes imports httpx"),
        ("errors", "from doubleweave.models import x", "errors imports doubleweave.models"),
    ],
)
def test_an_import_against_the_direction_is_found(layer: str, text: str, fault: str) -> None:
    assert faults(layer, text) == [fault]
