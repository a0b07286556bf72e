"""The code blocks of a page of docs/, and what a reader does with them: files to write and to change, commands to type."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent

_FENCE = re.compile(
    r'^```(?P<language>\w*)(?: title="(?P<title>[^"\n]+)")?\n(?P<text>.*?)^```$', re.DOTALL | re.MULTILINE
)
_COMMAND = re.compile(r"^\$ (?P<line>.*)\n(?P<printed>(?:(?!\$ ).*\n)*)", re.MULTILINE)
_SECONDS = re.compile(r"\b\d+\.\d\ds\b")
# How each command is run. No page has pytest-asyncio installed, which warns where it is not configured.
_PROGRAMS = {"python": [], "pytest": ["-m", "pytest", "-p", "no:asyncio"], "doubleweave": ["-m", "doubleweave"]}
_NO_EXAMPLE = {"console", "diff"}


class Block(NamedTuple):
    """One code block: its language, its title if it has one, and its text."""

    language: str
    title: str | None
    text: str


class Example(NamedTuple):
    """What both lanes share, one lane, the other lane, and what each of them prints."""

    shared: list[str]
    blocking: str
    awaited: str
    printed: str


def blocks_of(page: str) -> list[Block]:
    """Return the code blocks of a page, given by its path below the root; each fence belongs to one of them."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = _blocks_in(text)
    assert 2 * len(found) == len(re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)), page
    return found


def examples_of(page: str) -> list[Example]:
    """Return the examples of a page: pairs of lanes in a table, each with what it prints below, and all code before it.

    Every block belongs to one of them, but for those with a title, commands and differences.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    examples: list[Example] = []
    shared: list[str] = []
    lanes: list[str] = []
    for between, table in re.findall(r"(.*?)(<table>.*?</table>|\Z)", text, re.DOTALL):
        untitled = [each for each in _blocks_in(between) if not (each.title or each.language in _NO_EXAMPLE)]
        if lanes:
            language, _, printed = untitled.pop(0)
            assert language == "text", page
            blocking, awaited = lanes
            examples.append(Example(shared.copy(), blocking, awaited, printed))
        assert {each.language for each in untitled} <= {"python"}, page
        assert table or not untitled, f"the last block of {page} is in no example"
        shared += [each.text for each in untitled]
        lanes = [each.text for each in _blocks_in(table)]
    return examples


def walk_through(page: str, folder: Path) -> None:
    """Do in `folder` what a reader of a page does, block by block; fail where what is printed is not what the page says."""
    for block in blocks_of(page):
        if block.language == "console":
            type_into(block.text, folder)
        elif block.title is None:
            raise AssertionError(f"{page} has a block that is no command and no file:\n{block.text}")
        elif block.language == "diff":
            for name in block.title.split(", "):
                _change(folder / name, block.text)
        else:
            (folder / block.title).write_text(block.text, encoding="utf-8")


def type_into(session: str, folder: Path) -> None:
    """Run the commands of a session in `folder`; fail where one prints something else than stands below it."""
    commands = list(_COMMAND.finditer(session))
    assert "".join(each.group() for each in commands) == session
    for each in commands:
        printed = _printed_by(shlex.split(each["line"]), folder)
        assert _SECONDS.sub("0.00s", printed) == _SECONDS.sub("0.00s", each["printed"]), each["line"]


def _blocks_in(text: str) -> list[Block]:
    return [Block(*each.groups()) for each in _FENCE.finditer(text)]


def _printed_by(words: list[str], folder: Path) -> str:
    if words[:2] == ["pip", "install"]:
        _check_requirements(words[2:])
        return ""
    program, *arguments = words
    command = [sys.executable, "-W", "error", *_PROGRAMS[program], *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    # What went wrong is shown where a reader would see it.
    return done.stdout + done.stderr


def _check_requirements(texts: list[str]) -> None:
    """Prove that what a page installs is there: this project with extras that it has, or what its tests use too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    used = {Requirement(each).name for each in project["dependency-groups"]["dev"] if isinstance(each, str)}
    for each in map(Requirement, texts):
        assert each.name in {"doubleweave", *used}
        assert each.name != "doubleweave" or each.extras <= project["project"]["optional-dependencies"].keys()


def _change(file: Path, diff: str) -> None:
    lines = diff.splitlines(keepends=True)
    assert {line[0] for line in lines} <= set("+-")
    old, new = ("".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, file.name
    file.write_text(text.replace(old, new), encoding="utf-8")
