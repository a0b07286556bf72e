"""Reading and writing the small files of a store."""

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

LONGEST_NAME = 255
"""The longest file name that common file systems take, in bytes."""


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by one with this text, or leave it as it is; a symbolic link is replaced, not followed.

    The text is written beside it, brought to disk and renamed, so that a reader sees the old file or the new one.
    """
    handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_regular(path: Path, limit: int) -> bytes | None:
    """Return the content of a regular file of at most `limit` bytes; None for anything else, symbolic links among it."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
                return None
            return file.read()
    except (OSError, ValueError):
        return None


def first_fault(place: str, value: Any, above: tuple[int, ...] = ()) -> str | None:
    """Say where in `value` the first thing stands that has no JSON form, and what it is; None when there is none."""
    if id(value) in above:
        return f"{place} contains itself"
    try:
        to_json(value)
    except (ValueError, TypeError, RecursionError):
        for name, item in _items(value):
            fault = first_fault(f"{place}{name}", item, (*above, id(value)))
            if fault is not None:
                return fault
        return f"{place} is a {type(value).__name__}, which has no JSON form"
    return None


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f".{key}", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, BaseModel):
        yield from ((f".{key}", item) for key, item in value)
