"""The Model Context Protocol: flows as tools for agents, and an MCP server's tools as tools of flows. Needs the extra `mcp`."""

from doubleweave.models.product import PRODUCT

try:
    import mcp  # noqa: F401  # asked here, so that a missing one is told of once and well
except ImportError as error:
    raise ImportError(f'{__name__} needs the MCP SDK: pip install "{PRODUCT}[mcp]"', name=error.name) from error

from doubleweave.mcp.http import FlowHttpApp
from doubleweave.mcp.limits import Limits
from doubleweave.mcp.server import FlowServer
from doubleweave.mcp.tools import MCPTools, import_mcp_tools

__all__ = ["FlowHttpApp", "FlowServer", "Limits", "MCPTools", "import_mcp_tools"]
