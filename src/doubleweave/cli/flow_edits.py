"""Changing the governance in a flow file, and nothing else of it.

A flow whose file has no governance, or none with a stage, is active, and moves to none of the stages that commands know: what is
changed here always has a `lifecycle`.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import doubleweave as dw
from doubleweave.cli.text import fail

if TYPE_CHECKING:
    from doubleweave.models.flows import AnyFlow


def rewrite(path: Path, flow: AnyFlow, moved: dw.FlowGovernance, changes: dict[str, str]) -> None:
    """Write changes of a flow's governance into its file, or end the command; the file is replaced as a whole or not at all."""
    from doubleweave.stores.files import write_atomically

    # Line ends stay what they are; where writing a text makes them anew, they are taken off before.
    text = path.read_bytes().decode().replace(os.linesep, "\n")
    is_json = path.name.lower().endswith(".json")
    edited = _edit_json(text, changes) if is_json else _edit_yaml(text, changes)
    read = dw.flow_from_json if is_json else dw.flow_from_yaml
    try:
        is_right = read(edited) == flow.model_copy(update={"governance": moved})
    except dw.FlowSerializationError:
        is_right = False
    if not is_right:
        fail(f"{path} is not changed: write its governance as a plain mapping, a line for each key, and try again")
    target = path.resolve()
    mode = stat.S_IMODE(target.stat().st_mode)
    try:
        write_atomically(target, edited)
        target.chmod(mode)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}", 2)


def _edit_json(text: str, changes: dict[str, str]) -> str:
    """Return a text with other values of keys of its `governance`, indented by two blanks."""
    document = json.loads(text)
    document["governance"].update(changes)
    return json.dumps(document, indent=2, ensure_ascii=text.isascii()) + "\n"


def _edit_yaml(text: str, changes: dict[str, str]) -> str:
    """Return a text with other values of keys of its `governance`, new keys after `lifecycle`; all else stays, comments too."""
    import yaml

    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    governance = next(value for key, value in root.value if key.value == "governance")
    values = {key.value: value for key, value in governance.value}
    added = {key: value for key, value in changes.items() if key not in values}
    edits = [_added(text, governance, values["lifecycle"].end_mark.index, added)]
    for key in changes.keys() - added.keys():
        edits.append(_replaced(text, values[key], changes[key]))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _replaced(text: str, node: Any, value: str) -> tuple[int, int, str]:
    start, end = node.start_mark.index, node.end_mark.index
    # A text of several lines has the end of its last line as a part of it.
    old = text[start:end]
    return start, end, _yaml_scalar(value) + old[len(old.rstrip()) :]


def _added(text: str, governance: Any, after: int, pairs: dict[str, str]) -> tuple[int, int, str]:
    texts = [f"{key}: {_yaml_scalar(value)}" for key, value in pairs.items()]
    if governance.flow_style:
        return after, after, "".join(f", {each}" for each in texts)
    newline = "\r\n" if "\r\n" in text else "\n"
    line_end = text.find(newline, after)
    place = len(text) if line_end < 0 else line_end
    indent = " " * governance.value[0][0].start_mark.column
    return place, place, "".join(f"{newline}{indent}{each}" for each in texts)


def _yaml_scalar(value: str) -> str:
    """Return a text as YAML on one line, without quotes where it needs none."""
    import yaml

    style = None if value.isprintable() else '"'
    line = yaml.safe_dump([value], default_flow_style=True, default_style=style, allow_unicode=True, width=float("inf"))
    return str(line).strip()[1:-1]
