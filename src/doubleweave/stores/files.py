"""Reading and writing the small files of a store."""

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json, to_json

LONGEST_NAME = 255
"""The longest file name that common file systems take, in bytes."""

DEEPEST = 200
"""How deep JSON may be nested for it to be read again."""


def write_atomically(path: Path, text: str, *, replace: bool = True) -> None:
    """Replace a file by one with this text, or leave it as it is; a symbolic link is replaced, not followed.

    The text is written beside it, brought to disk and renamed, so that a reader sees the old file or the new one. Of several
    threads and processes that make one file without `replace`, one does, and the others raise.

    Raises:
        FileExistsError: There is something at this path, be it a link to nowhere, and `replace` is false.
        OSError: The file cannot be written.
    """
    handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(name, path)
        else:
            _publish(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _publish(name: str, path: Path) -> None:
    """Give a file its path; `FileExistsError` when that is taken."""
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:
        # This file system has no hard links. Until it is replaced, which is at once, what takes the path is empty.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            os.replace(name, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    else:
        os.unlink(name)


def read_regular(path: Path, limit: int) -> bytes | None:
    """Return the content of a regular file of at most `limit` bytes; None for anything else, symbolic links among it."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            return None
        with open(handle, "rb", closefd=False) as file:
            return file.read()
    except OSError:
        return None
    finally:
        os.close(handle)


def first_fault(place: str, value: Any, depth: int) -> str | None:
    """Say where in `value` the first thing stands that JSON cannot give back, and what it is; None when there is none.

    `value` itself is called `place` and stands `depth` levels deep in its document.
    """
    if _reads_back(value, depth):
        return None
    above: list[Any] = []
    while not any(value is item for item in above):
        above.append(value)
        if depth + len(above) > DEEPEST:
            return f"{place[:60]}... is nested more than {DEEPEST} levels deep"
        for name, item in _items(value):
            if not _reads_back(item, depth + len(above)):
                place, value = f"{place}{name}", item
                break
        else:
            return f"{place} is a {type(value).__name__}, which has no JSON form"
    return f"{place} contains itself"


def _reads_back(value: Any, depth: int) -> bool:
    try:
        from_json(b"[" * depth + to_json(value) + b"]" * depth)
    except (ValueError, TypeError, RecursionError):
        return False
    return True


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f".{key}", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, BaseModel):
        yield from ((f".{key}", item) for key, item in value)
