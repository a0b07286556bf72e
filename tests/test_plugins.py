"""Plugins of installed distributions, found through their entry points."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import doubleweave as dw

GOOD = """
from pydantic import BaseModel
from doubleweave import Flow, Tool

class Number(BaseModel):
    n: int

def double(value):
    return {"n": value.n * 2}

def tools():
    return [Tool(name=name, description="", input_schema=Number, output_schema=Number, fn=double) for name in ("b", "a")]

def flows():
    return [Flow(name="empty", description="", steps=[])]

def others():
    return [Tool(name=name, description="", input_schema=Number, output_schema=Number, fn=double) for name in ("d", "c")]

def empty():
    pass

def mixed():
    return [*tools(), "no tool"]

def mixed_flows():
    return [*flows(), 5]

def raising():
    raise RuntimeError("no licence")

def needy(config):
    return tools()

def tupled():
    return tuple(tools())

class Maker:
    def __call__(self):
        return tools()

maker = Maker()

constant = 5
"""


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a distribution with the given entry points."""

    def make(group: str, **entries: str) -> None:
        (tmp_path / "good_plugin.py").write_text(GOOD)
        info = tmp_path / "good_plugin-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: good-plugin\nVersion: 1.0\n")
        lines = [f"{name} = good_plugin:{target}" for name, target in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))
        monkeypatch.syspath_prepend(str(tmp_path))

    return make


@pytest.mark.parametrize("target", ["tools", "maker"])
def test_y_1_a_callable_without_parameters_returns_a_list_of_tools(install: Install, target: str) -> None:
    install("doubleweave.tools", one=target)
    found = dw.discover_tools(strict=True)
    assert [(type(tool), tool.name) for tool in found] == [(dw.Tool, "b"), (dw.Tool, "a")]


async def test_an_executor_that_discovers_plugins_runs_their_tools_on_both_lanes(install: Install) -> None:
    install("doubleweave.tools", one="tools")
    registry = dw.FlowRegistry()
    registry.register_flow(dw.Flow(name="twice", description="", steps=[dw.FlowStep(tool_name="a")]))
    executor = dw.FlowExecutor(registry, discover_plugins=True)
    assert list(executor.registered_tools) == ["b", "a"]
    assert executor.execute_flow("twice", {"n": 4}).final_output == {"n": 8}
    awaited = dw.AsyncFlowExecutor(registry, discover_plugins=True)
    assert (await awaited.execute_flow("twice", {"n": 4})).final_output == {"n": 8}
    assert executor.with_replaced_tools([]).registered_tools == {}
    assert dw.FlowExecutor(registry).registered_tools == {}


def test_y_1_flows_are_discovered_in_a_group_of_their_own(install: Install) -> None:
    install("doubleweave.flows", one="flows")
    assert [flow.name for flow in dw.discover_flows(strict=True)] == ["empty"]
    assert dw.discover_tools(strict=True) == []


def test_g_5_a_registry_that_discovers_plugins_has_their_flows_from_the_start(install: Install) -> None:
    install("doubleweave.flows", one="flows")
    assert [flow.name for flow in dw.FlowRegistry(discover_plugins=True).list_flows()] == ["empty"]
    assert len(dw.FlowRegistry()) == 0
    store = dw.InMemoryStore()
    assert dw.FlowRegistry(store, discover_plugins=True).store is store
    with pytest.raises(dw.FlowAlreadyExistsError, match="Flow 'empty' is already registered"):
        dw.FlowRegistry(store, discover_plugins=True)
    assert len(store) == 1


def test_g_5_a_bad_plugin_is_skipped_with_a_warning(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("doubleweave.flows", bad="mixed_flows", good="flows")
    with caplog.at_level(logging.WARNING, "doubleweave.plugins"):
        assert [flow.name for flow in dw.FlowRegistry(discover_plugins=True).list_flows()] == ["empty"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


BAD = [
    ("gone", "it cannot be imported: AttributeError: module 'good_plugin' has no attribute 'gone'"),
    ("constant", "expected a callable, found int"),
    ("raising", "it raised RuntimeError: no licence"),
    ("needy", "it raised TypeError: needy() missing 1 required positional argument: 'config'"),
    ("tupled", "expected list[Tool], found tuple"),
    ("mixed", "its list has a non-Tool item: 'no tool'"),
]


@pytest.mark.parametrize(("target", "detail"), BAD)
def test_y_2_a_bad_entry_point_is_skipped_with_a_warning_or_refused(
    install: Install, target: str, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    install("doubleweave.tools", bad=target, good="tools")
    with caplog.at_level(logging.WARNING, "doubleweave.plugins"):
        assert [tool.name for tool in dw.discover_tools()] == ["b", "a"]
    message = f"Plugin discovery failed for entry point 'good-plugin:bad': {detail}."
    lines = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [("doubleweave.plugins", "WARNING", f"Skipping a plugin: {message}")]
    with pytest.raises(dw.PluginDiscoveryError) as caught:
        dw.discover_tools(strict=True)
    assert str(caught.value) == message
    assert (caught.value.entry_point, caught.value.detail) == ("good-plugin:bad", detail)
    has_cause = caught.value.__cause__ is not None
    assert has_cause == (target in ("gone", "raising", "needy")) == bool(caplog.records[0].exc_info)


@pytest.mark.parametrize(
    ("target", "detail"),
    [
        ("mixed_flows", "its list has a non-Flow | DAGFlow item: 5"),
        ("constant", "expected a callable, found int"),
        ("empty", "expected list[Flow | DAGFlow], found NoneType"),
    ],
)
def test_y_2_an_entry_point_that_gives_no_list_of_flows_is_refused(install: Install, target: str, detail: str) -> None:
    install("my.flows", bad=target, good="flows")
    with pytest.raises(dw.PluginDiscoveryError) as caught:
        dw.discover_flows(group="my.flows", strict=True)
    assert (caught.value.entry_point, caught.value.detail) == ("good-plugin:bad", detail)
    assert [flow.name for flow in dw.discover_flows(group="my.flows")] == ["empty"]


def test_y_2_results_come_in_the_order_of_the_entry_points_and_of_their_lists(install: Install) -> None:
    install("doubleweave.tools", z="tools", bad="mixed", y="others")
    assert [tool.name for tool in dw.discover_tools()] == ["b", "a", "d", "c"]


@pytest.mark.parametrize(
    ("discover", "group"),
    [
        (dw.discover_tools, "doubleweave.tools"),
        (dw.discover_flows, "doubleweave.flows"),
        (lambda **options: dw.FlowRegistry(discover_plugins=True).list_flows(), "doubleweave.flows"),
        (
            lambda **options: list(dw.FlowExecutor(dw.FlowRegistry(), discover_plugins=True).registered_tools),
            "doubleweave.tools",
        ),
        (
            lambda **options: list(dw.AsyncFlowExecutor(dw.FlowRegistry(), discover_plugins=True).registered_tools),
            "doubleweave.tools",
        ),
    ],
)
def test_y_3_entry_points_are_looked_up_by_the_name_in_the_module(
    discover: Callable[..., list[Any]], group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, str]] = []

    def none_at_all(**selection: str) -> list[EntryPoint]:
        asked.append(selection)
        return []

    monkeypatch.setattr("doubleweave.plugins.entry_points", none_at_all)
    assert discover() == []
    assert asked == [{"group": group}]


def test_y_2_y_3_an_entry_point_of_no_distribution_is_named_by_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_point = EntryPoint(name="bad", value="no_such_plugin:tools", group="mine")
    monkeypatch.setattr("doubleweave.plugins.entry_points", lambda *, group: {"mine": [entry_point]}[group])
    with pytest.raises(dw.PluginDiscoveryError) as caught:
        dw.discover_tools(group="mine", strict=True)
    assert caught.value.entry_point == "no_such_plugin:tools:bad"
    assert caught.value.detail == "it cannot be imported: ModuleNotFoundError: No module named 'no_such_plugin'"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_y_3_importing_the_package_discovers_nothing(install: Install, tmp_path: Path) -> None:
    install("doubleweave.tools", one="tools")
    program = (
        "import sys, doubleweave, doubleweave.plugins, doubleweave.executor, doubleweave.registry\n"
        "from doubleweave import *\n"
        "FlowExecutor(FlowRegistry())\n"
        "print('good_plugin' in sys.modules)\n"
        "discover_tools()\n"
        "print('good_plugin' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True"]
