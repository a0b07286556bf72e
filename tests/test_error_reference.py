"""The reference page of errors lists every error that the library has, with its code, attributes and meaning."""

import inspect
import re
from pathlib import Path

import doubleweave
from doubleweave import errors

PAGE = Path(__file__).parent.parent / "docs" / "errors.md"


def rows() -> list[str]:
    # Some are defined where they are raised, and are known once that is imported.
    public = {name: getattr(doubleweave, name) for name in doubleweave.__all__}
    found = []
    for name, code in sorted(errors.error_code_registry().items(), key=lambda item: item[1]):
        error = public.get(name)
        if error is None:
            continue
        parameters = list(inspect.signature(error.__init__).parameters)[1:]
        attributes = ", ".join(f"`{each}`" for each in parameters if each not in ("args", "kwargs")) or "-"
        found.append(f"| {code} | `{name}` | {attributes} | {(inspect.getdoc(error) or '').splitlines()[0]} |")
    return found


def test_e_9_the_error_reference_has_a_true_row_for_every_code() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.match(r"\| CW-E\d{3} ", line)] == rows()


def test_every_error_says_what_to_do() -> None:
    meanings, advice = PAGE.read_text(encoding="utf-8").split("## What to do")
    told = re.findall(r"^\| `(\w+)` \| ([A-Z][^|]*[^| .])\. \|$", advice, re.MULTILINE)
    assert [name for name, _ in told] == re.findall(r"^\| CW-E\d{3} \| `(\w+)` ", meanings, re.MULTILINE)
    assert len({advice for _, advice in told}) == len(told)
