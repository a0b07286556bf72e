"""List the points of a specification that no test bears the name of.

    python tools/spec_points.py FOLDER_OR_FILE...

Points are the tagged rules of its Markdown files (`- FL-3 ...`) and the rows of their tables. A rule's test has the tag in its
name (`test_fl_3_...`) or in the id of one of its cases; a row's test has the row's first cell there, in words joined by
underscores.
Exits with 1 when a point has no test.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent.parent / "tests"
RULE = re.compile(r"^- ([A-Z]{1,3}-\d+[a-z]?)\b")
LONGEST_NAME = 160


class Point(NamedTuple):
    """A rule or a row, where it stands, and the names of which a test has to bear one."""

    place: str
    text: str
    names: tuple[str, ...]


def words(text: str) -> str:
    """Return a text as words joined by underscores: `FL-3` and ``a `b(c)` `` are `fl_3` and `a_b_c`."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def points_of(path: Path) -> Iterator[Point]:
    """Yield the points of a file, in order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        place = f"{path.name}:{number}"
        if rule := RULE.match(line):
            yield Point(place, rule[1], (words(rule[1]),))
        elif line.startswith("|") and not is_head(lines, number - 1):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
            yield Point(place, cells[0], tuple(row_names(cells)))


def is_head(lines: list[str], index: int) -> bool:
    """Say whether a line of a table is its head or the rule below that."""
    below = lines[index + 1] if index + 1 < len(lines) else ""
    return any(re.fullmatch(r"[|: -]+", each) and "-" in each for each in (lines[index], below))


def row_names(cells: list[str]) -> Iterator[str]:
    first = cells[0]
    if not re.search("[A-Za-z]", first):
        yield words(f"order {first}")
        yield words(" ".join(cells[:2]))
        return
    yield words(first)
    # A row of several names, or of a call with its parameters.
    for part in re.findall(r"`([^`]+)`", first):
        yield words(re.split(r"[(\[:=]", part)[0])


def names_in_tests() -> str:
    """Return the names of all tests and of their cases, each between blanks."""
    found: set[str] = set()
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.add(words(node.name))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) <= LONGEST_NAME:
                found.add(words(node.value))
    return " ".join(sorted(found))


def has_test(point: Point, names: str) -> bool:
    """Say whether a test bears one of a point's names, as whole words."""
    return any(name and re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", names) for name in point.names)


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    paths = [
        path for each in map(Path, sys.argv[1:]) for path in (sorted(each.glob("*.md")) if each.is_dir() else [each])
    ]
    names, total, missing = names_in_tests(), 0, 0
    for path in paths:
        for point in points_of(path):
            total += 1
            if not has_test(point, names):
                missing += 1
                print(f"{point.place}: {point.text}")
    print(f"{missing} of {total} points have no test")
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
