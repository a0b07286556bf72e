"""Plain JSON data: copying it, and saying where in it something is wrong."""

import math
import re
from typing import Any

_PLAIN_NAME = re.compile(r"[\w$-]+")
_LONGEST_MESSAGE = 400

Path = tuple[str | int, ...]


def plain_copy(value: Any, path: Path, faults: list[tuple[Path, str]]) -> Any:
    """Copy the containers of `value` and add to `faults` whatever in it is not JSON."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            faults.append((path, f"{value!r} is not a JSON number"))
        return value
    if isinstance(value, list):
        return [plain_copy(item, (*path, index), faults) for index, item in enumerate(value)]
    if isinstance(value, dict):
        copy = {}
        for key, item in value.items():
            if isinstance(key, str):
                copy[key] = plain_copy(item, (*path, key), faults)
            else:
                faults.append((path, f"key {key!r} is of type {type(key).__name__}; JSON keys are strings"))
        return copy
    faults.append((path, f"{type(value).__name__} is not a JSON type"))
    return value


def fault_order(fault: tuple[Path, str]) -> tuple[list[tuple[bool, int, str]], str]:
    """Sort key: indices by number, names by text, then messages."""
    path, message = fault
    return [(True, 0, part) if isinstance(part, str) else (False, part, "") for part in path], message


def json_path(path: Path) -> str:
    return "$" + "".join(_path_part(part) for part in path)


def _path_part(part: str | int) -> str:
    return f".{part}" if isinstance(part, str) and _PLAIN_NAME.fullmatch(part) else f"[{part!r}]"


def shortened(message: str) -> str:
    """Cut the middle out of a long message, which quotes the whole value at its start."""
    if len(message) <= _LONGEST_MESSAGE:
        return message
    half = _LONGEST_MESSAGE // 2
    return f"{message[:half]} ... {message[-half:]}"
