"""Pages with commands: files that the page shows are written, its commands are run, and what they print is compared."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from doc_pages import blocks_of

ROOT = Path(__file__).parent.parent
# A file has its name, as code, at the end of the paragraph before it.
_BLOCK = re.compile(r"(?:`([\w./-]+)`:\n\n)?```(\w+)\n(.*?)```", re.DOTALL)
_VARYING = re.compile(r"(?<![\w.])(\d+\.\d|[0-9a-f]{32}|http://127\.0\.0\.1:\d+/[\w-]+/)(?![\w.])")


class Command(NamedTuple):
    """A command of a page, and what stands below it."""

    line: str
    printed: str


class Page(NamedTuple):
    """The files that a page shows, and its commands in their order."""

    files: dict[str, str]
    commands: list[Command]


def read_page(name: str) -> Page:
    """Return the files and commands of a page."""
    files, commands = {}, []
    for file, kind, text in _BLOCK.findall((ROOT / name).read_text(encoding="utf-8")):
        if kind == "console":
            commands += [
                Command(*re.match(r"(.*)\n((?s:.*))", part).groups())  # type: ignore[union-attr]  # each part has a line
                for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
            ]
        elif file:
            files[file] = text
    return Page(files, commands)


def blocks_of_no_use(name: str) -> list[str]:
    """Return the blocks of a page of commands that are neither a file with its name nor a session that begins with a command."""
    files = read_page(name).files.values()
    found = [each for each in blocks_of(name) if each.title is not None or each.text not in files]
    return [each.text for each in found if each.language != "console" or not each.text.startswith("$ ")]


def run_command(line: str, folder: Path) -> str:
    """Return what a command prints, errors too, with `#` for what differs from run to run."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "COLUMNS": "100",
    }
    done = subprocess.run(
        line, shell=True, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )  # fmt: skip
    return done.stdout


def without_times(text: str) -> str:
    """Return a text with `#` for times and trace ids, and one blank for several."""
    return re.sub(r" +", " ", _VARYING.sub("#", text)).replace("\n ", "\n")
