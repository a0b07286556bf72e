"""Tools and flows that installed distributions offer through entry points."""

import logging
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from doubleweave.errors import PluginDiscoveryError
from doubleweave.models.flows import AnyFlow, DAGFlow, Flow
from doubleweave.models.product import PRODUCT
from doubleweave.models.tools import ToolBase

TOOLS_GROUP = f"{PRODUCT}.tools"
FLOWS_GROUP = f"{PRODUCT}.flows"

_logger = logging.getLogger(f"{PRODUCT}.plugins")


def discover_tools(*, group: str = TOOLS_GROUP, strict: bool = False) -> list[Any]:
    """Return the tools of every entry point of a group, in the order of the entry points.

    Each entry point names a function without parameters that returns a list of tools. A bad one is skipped with a warning.

    Raises:
        PluginDiscoveryError: An entry point is bad, and `strict` is set.
    """
    return list(_discover(group, strict, (ToolBase,), "Tool"))


def discover_flows(*, group: str = FLOWS_GROUP, strict: bool = False) -> list[AnyFlow]:
    """Return the flows of every entry point of a group, in the order of the entry points.

    Each entry point names a function without parameters that returns a list of flows. A bad one is skipped with a warning.

    Raises:
        PluginDiscoveryError: An entry point is bad, and `strict` is set.
    """
    return list(_discover(group, strict, (Flow, DAGFlow), "Flow | DAGFlow"))


def _discover(group: str, strict: bool, kinds: tuple[type, ...], word: str) -> Iterator[Any]:
    for entry_point in entry_points(group=group):
        try:
            yield from _load(entry_point, kinds, word)
        except PluginDiscoveryError as error:
            if strict:
                raise
            _logger.warning("Skipping a plugin: %s", error, exc_info=error.__cause__)


def _load(entry_point: EntryPoint, kinds: tuple[type, ...], word: str) -> list[Any]:
    try:
        loader = entry_point.load()
    except Exception as error:
        raise _fault(entry_point, f"it cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(loader):
        raise _fault(entry_point, f"expected a callable, found {type(loader).__name__}")
    try:
        items = loader()
    except Exception as error:
        raise _fault(entry_point, f"it raised {type(error).__name__}: {error}") from error
    if not isinstance(items, list):
        raise _fault(entry_point, f"expected list[{word}], found {type(items).__name__}")
    for item in items:
        if not isinstance(item, kinds):
            raise _fault(entry_point, f"its list has a non-{word} item: {item!r}")
    return items


def _fault(entry_point: EntryPoint, detail: str) -> PluginDiscoveryError:
    owner = entry_point.value if entry_point.dist is None else entry_point.dist.name
    return PluginDiscoveryError(f"{owner}:{entry_point.name}", detail)
