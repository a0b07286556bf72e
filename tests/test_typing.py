"""mypy and pyright accept what users write, and refuse what they must not: the files in tests/typing/."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from doc_pages import blocks_of

FILES = Path(__file__).resolve().parent / "typing"
# pyright with its node, built by others from the same source; its strict mode is that of pyright.
PYRIGHT = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson", "-p"]


def mypy_faults(folder: Path) -> list[str]:
    """Return what mypy says of the files in a folder, with its line and the code of the error."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        "mypy.ini",
        "--no-error-summary",
        "--hide-error-context",
        ".",
    ]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode < 2, ran.stdout + ran.stderr
    return [line for line in ran.stdout.splitlines() if ": error: " in line]


def pyright_faults(folder: Path) -> list[str]:
    """Return what pyright says of the files in a folder, in the form of mypy."""
    ran = subprocess.run([*PYRIGHT, str(folder)], capture_output=True, text=True, check=False)
    found = json.loads(ran.stdout)
    assert found["summary"]["filesAnalyzed"] == len(list(folder.glob("*.py")))
    return [
        f"{Path(each['file']).name}:{each['range']['start']['line'] + 1}: error: {each['message']}  [{each.get('rule')}]"
        for each in found["generalDiagnostics"]
    ]


Faults = Callable[[Path], list[str]]
CHECKERS = pytest.mark.parametrize("faults", [mypy_faults, pyright_faults], ids=["mypy", "pyright"])


@CHECKERS
def test_what_users_write_is_accepted_and_their_mistakes_are_refused(faults: Faults) -> None:
    assert faults(FILES) == []


@CHECKERS
def test_a_wrong_type_and_a_mistake_that_is_none_are_found(faults: Faults, tmp_path: Path) -> None:
    for file in FILES.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    (tmp_path / "new.py").write_text(
        "from typing import assert_type\n"
        "from doubleweave import FlowExecutor, FlowRegistry\n"
        "result = FlowExecutor(FlowRegistry()).execute_flow('f', {})\n"
        "assert_type(result.success, str)\n"
        "result.trace_id  # type: ignore[index]  # pyright: ignore[reportOptionalSubscript]\n"
    )
    assert [line.split(": error: ")[0] for line in faults(tmp_path)][:2] == ["new.py:4", "new.py:5"]


@CHECKERS
def test_the_programs_that_newcomers_copy_are_accepted(faults: Faults, tmp_path: Path) -> None:
    for name in ("mypy.ini", "pyrightconfig.json"):
        shutil.copy(FILES / name, tmp_path)
    shared, blocking, awaited, *_ = (each.text for each in blocks_of("README.md") if each.language == "python")
    # What both share imports what each of them needs.
    for name, text in (("blocking.py", blocking), ("awaited.py", awaited)):
        (tmp_path / name).write_text(f"{shared}\n{text}\n_ = (asyncio, AsyncFlowExecutor, FlowExecutor)\n")
    for page in ("docs/tutorial.md", "docs/script.md"):
        for block in blocks_of(page):
            if block.language == "python" and block.title is not None:
                (tmp_path / block.title).write_text(block.text)
    assert len(list(tmp_path.glob("*.py"))) == 8
    assert faults(tmp_path) == []
