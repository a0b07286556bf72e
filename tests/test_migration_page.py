"""The page on moving from ChainWeaver: each name is where it says, and nothing is left out; `test_readme.py` runs its program."""

import logging
import re
from importlib import import_module
from pathlib import Path

import pytest

import doubleweave
from doubleweave import errors, plugins
from doubleweave.models.product import PRODUCT
from doubleweave.testing.replay import RECORD_ENV_VAR
from test_readme import blocks
from test_row_coverage import DEVIATIONS

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = (DOCS / "migration.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


KEPT = [(name, quoted(place)[0]) for _, names, place in rows("Where each name is") for name in quoted(names)]
NEW = [(name, quoted(place)[0]) for names, place, _ in rows("What is new here") for name in quoted(names)]
RENAMED = [(quoted(there), quoted(here)) for _, there, here in rows("What to change")]
ABSENT = [(quoted(names), quoted(codes)) for names, codes, _ in rows("What is not here")]


def names_from(module: str, places: list[tuple[str, str]]) -> list[str]:
    """Return the names that the page gives to a module, but for members of classes."""
    return sorted(name for name, place in places if place == module and "." not in name)


@pytest.mark.parametrize(("name", "module"), [*KEPT, *NEW])
def test_each_name_can_be_imported_from_where_the_page_says(name: str, module: str) -> None:
    first, *members = name.split(".")
    imported: dict[str, object] = {}
    exec(f"from {module} import {first}", imported)
    for member in members:
        assert hasattr(imported[first], member)


def test_every_public_name_stands_on_the_page_once_as_renamed_kept_or_new() -> None:
    public = [name for name in doubleweave.__all__ if not name.startswith("__")]
    renamed = [name for _, here in RENAMED for name in here if name in public]
    assert sorted(renamed + names_from("doubleweave", [*KEPT, *NEW])) == public


@pytest.mark.parametrize(
    "module",
    [
        "doubleweave.attest",
        "doubleweave.cli",
        "doubleweave.contrib",
        "doubleweave.export",
        "doubleweave.testing",
        "doubleweave.testing.protocol_suites",
        "pytest_doubleweave",
    ],
)
def test_every_name_of_a_public_module_stands_on_the_page(module: str) -> None:
    public = import_module(module).__all__
    of_the_root = doubleweave.__all__ if module == "doubleweave.attest" else []
    assert names_from(module, [*KEPT, *NEW]) == sorted(set(public) - set(of_the_root))


def test_every_name_of_the_adapter_to_opentelemetry_stands_on_the_page() -> None:
    module = import_module("doubleweave.integrations.opentelemetry")
    public = [
        name
        for name, member in vars(module).items()
        if not name.startswith("_") and getattr(member, "__module__", None) == module.__name__
    ]
    assert names_from(module.__name__, KEPT) == sorted(public)


def test_every_deviation_stands_on_the_page_once_and_in_order() -> None:
    table = rows("What behaves differently")
    assert [cells[0] for cells in table] == [f"DEV-{number}" for number in sorted(DEVIATIONS)]
    assert len(re.findall(r"DEV-\d+", PAGE)) == len(DEVIATIONS)
    assert all(len(cells) == 3 and all(cells) and cells[1] != cells[2] for cells in table)


def test_what_is_renamed_differs_by_the_name_of_the_product_alone() -> None:
    *products, hook = RENAMED
    swapped = {"chainweaver": PRODUCT, "ChainWeaver": PRODUCT.capitalize(), "CHAINWEAVER": PRODUCT.upper()}
    for there, here in products:
        expected = [re.sub("chainweaver", lambda found: swapped[found[0]], name, flags=re.IGNORECASE) for name in there]
        assert here[: len(there)] == expected
    assert hook == (["_execute_capability_step"], ["execute_capability_step"])
    assert callable(doubleweave.FlowExecutor.execute_capability_step)


def test_the_names_that_the_page_gives_are_those_in_use() -> None:
    given = [name for _, here in RENAMED for name in here]
    assert {plugins.TOOLS_GROUP, plugins.FLOWS_GROUP, RECORD_ENV_VAR, "DoubleweaveError", PRODUCT} <= set(given)
    loggers = {f"{PRODUCT}.executor", f"{PRODUCT}.middleware", f"{PRODUCT}.plugins"}
    assert loggers <= set(given)
    assert doubleweave.FlowExecutor is not None  # what logs is imported with it
    assert loggers <= set(logging.root.manager.loggerDict)


def test_the_lines_that_change_are_all_lines_of_the_program_with_the_name_of_the_product() -> None:
    (changes,) = blocks("docs/migration.md", "diff")
    before = [line[1:] for line in changes.splitlines() if line.startswith("-")]
    after = [line[1:] for line in changes.splitlines() if line.startswith("+")]
    assert [
        line.replace("chainweaver", "doubleweave").replace("ChainWeaver", "Doubleweave") for line in before
    ] == after
    program = "".join(blocks("docs/migration.md", "python")).splitlines()
    assert list(dict.fromkeys(line for line in program if "doubleweave" in line.lower())) == after


def test_what_is_not_here_is_not_here_and_its_codes_are_free() -> None:
    codes = set(errors.error_code_registry().values())
    for names, reserved in ABSENT:
        assert len(names) == len(reserved) > 0
        assert codes.isdisjoint(reserved)
        assert [name for name in names if hasattr(doubleweave, name) or hasattr(errors, name)] == []
    assert not hasattr(doubleweave, "KernelBackedExecutor")


def test_the_links_of_the_page_lead_somewhere() -> None:
    headings = {re.sub(r"\W+", "-", line[3:].lower()) for line in PAGE.splitlines() if line.startswith("## ")}
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        page, _, heading = target.partition("#")
        assert (DOCS / page).exists() if page else heading in headings, target
