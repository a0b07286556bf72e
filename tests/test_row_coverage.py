"""Every difference between the lanes, and every deviation, has a test that bears its number."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from parity_scenarios import SCENARIOS

TESTS = Path(__file__).resolve().parent
ROWS, DEVIATIONS = set(range(1, 30)), set(range(1, 43))


def names_of_tests(source: str) -> Iterator[str]:
    """Yield the names of the test functions in a module's source."""
    for item in ast.walk(ast.parse(source)):
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name.startswith("test_"):
            yield item.name


def numbers(word: str, names: set[str]) -> set[int]:
    """Return the numbers that follow a word in some names, as in `row_4`, `row 4` and `ROW-4`."""
    found = re.compile(rf"(?:^|[\W_]){word}[ _-](\d+)(?![^\W_])", re.IGNORECASE)
    return {int(number) for name in names for number in found.findall(name)}


def names_in_the_suite() -> set[str]:
    sources = [path for path in TESTS.rglob("test_*.py") if "_sync" not in path.parts]
    names = {name for path in sources for name in names_of_tests(path.read_text(encoding="utf-8"))}
    return names | {row[0] for row in SCENARIOS}


def test_each_number_has_a_test() -> None:
    names = names_in_the_suite()
    assert numbers("row", names) == ROWS
    assert numbers("dev", names) == DEVIATIONS


@pytest.mark.parametrize(
    ("name", "rows", "deviations"),
    [
        ("test_row_1_dev_2_row_34_x", {1, 34}, {2}),
        ("row 2 DEV-1 decisions", {2}, {1}),
        ("test_arrow_3_and_dev3_and_row_4th_and_dev_in_5", set(), set()),
        ("test_dev_5", set(), {5}),
    ],
)
def test_what_counts_as_a_number(name: str, rows: set[int], deviations: set[int]) -> None:
    assert (numbers("row", {name}), numbers("dev", {name})) == (rows, deviations)
    module = f'async def {name.replace(" ", "_").replace("-", "_")}(): """row 99"""\ndef helper_row_98(): ...'
    assert numbers("row", set(names_of_tests(module))) == (rows if name.startswith("test_") else set())
