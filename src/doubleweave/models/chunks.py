"""One piece of what a streaming tool yields."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class ToolChunk(BaseModel):
    """A chunk of a tool's stream; the one with ``is_final=True`` carries the tool's whole output."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    data: Any
    is_final: bool = False
