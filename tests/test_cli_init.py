"""`init` writes a project that works: its tests, its Makefile and every command that is printed are run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import doubleweave as dw
from cli_under_test import Called, Shell
from doubleweave.cli import app
from doubleweave.cli.starting import _name_for

pytest_plugins = ["cli_under_test"]

FILES = ("{0}.flow.json", "{0}_tools.py", "test_{0}.py", "Makefile", "README.md")


def files_of(name: str) -> list[str]:
    return [each.format(name) for each in FILES]


def in_a_shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would who has this Python's programs on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHON": sys.executable, "XDG_CONFIG_HOME": str(folder / ".config")}
    for inherited in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        # These tests may be run by make.
        environment.pop(inherited, None)
    return subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_a_directory_gets_the_files_of_a_project_named_after_it(shell: Shell) -> None:
    called = shell("init", "My Shop")
    created = [f"created {Path('My Shop', name)}" for name in files_of("my_shop")]
    assert (called.code, called.err) == (0, "")
    assert called.out.splitlines() == [
        *created,
        "next:",
        "  cd 'My Shop'",
        "  make test",
        "  make run",
        "  doubleweave viz my_shop --file my_shop.flow.json",
    ]
    assert sorted(path.name for path in Path("My Shop").iterdir()) == sorted(files_of("my_shop"))
    assert all("{{" not in path.read_text() for path in Path("My Shop").iterdir())


def test_without_a_directory_it_is_the_current_one(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shell.folder / "deep" / "till"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    called = shell("init")
    assert called.code == 0
    assert called.out.splitlines() == [
        *(f"created {name}" for name in files_of("till")),
        "next:",
        "  make test",
        "  make run",
        "  doubleweave viz till --file till.flow.json",
    ]


@pytest.mark.parametrize("name", files_of("shop"))
@pytest.mark.parametrize("kind", ["file", "folder", "link to nowhere"])
def test_nothing_is_overwritten(shell: Shell, name: str, kind: str) -> None:
    path = shell.write(f"shop/{name}", "mine")
    if kind != "file":
        path.unlink()
        path.mkdir() if kind == "folder" else path.symlink_to("nowhere")
    called = shell("init", "shop")
    message = f"nothing has been written, since this would be overwritten: {Path('shop', name)}"
    assert called == Called(1, "", f"doubleweave: {message}\n")
    assert [each.name for each in Path("shop").iterdir()] == [name]
    assert kind != "file" or path.read_text() == "mine"
    assert CliRunner().invoke(app, ["init", "shop"]).exit_code == 1


def test_each_file_that_is_in_the_way_is_named(shell: Shell) -> None:
    assert shell("init", "shop").code == 0
    files = ", ".join(str(Path("shop", name)) for name in files_of("shop"))
    assert shell("init", "shop").err == (
        f"doubleweave: nothing has been written, since this would be overwritten: {files}\n"
    )


def test_other_files_of_the_directory_are_no_trouble(shell: Shell) -> None:
    shell.write("shop/notes.txt", "mine")
    assert shell("init", "shop").code == 0
    assert sorted(path.name for path in Path("shop").iterdir()) == sorted([*files_of("shop"), "notes.txt"])


@pytest.mark.parametrize(
    ("directory", "message"),
    [
        ("number_tools.py", "not a directory: number_tools.py"),
        ("number_tools.py/shop", "number_tools.py/shop cannot be written: Not a directory"),
    ],
)
def test_what_cannot_be_a_directory_is_exit_code_2(shell: Shell, directory: str, message: str) -> None:
    assert shell("init", directory) == Called(2, "", f"doubleweave: {message}\n")


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("shop", "shop"),
        ("My-Shop.v2", "my_shop_v2"),
        ("2024 orders", "flow_2024_orders"),
        ("Läden", "l_den"),
        ("店", "starter"),
        ("..", "starter"),
        ("class", "class"),
        ("a" * 200, "a" * 40),
    ],
)
def test_names_are_derived_safely(directory: str, name: str) -> None:
    assert _name_for(Path("/") / directory) == name


@given(st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=80))
def test_every_directory_gives_a_name_for_modules_and_files(directory: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", _name_for(Path("/") / directory))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return the folder in which `init` was called, and the commands that it printed."""
    folder = tmp_path_factory.mktemp("new")
    done = in_a_shell("doubleweave init 'my shop'", folder)
    assert (done.returncode, done.stderr) == (0, "")
    _, _, after = done.stdout.partition("next:\n")
    return folder, [line.strip() for line in after.splitlines()]


class TestTheProject:
    """What `init` writes, run in processes of their own."""

    def test_each_printed_command_works(self, project: tuple[Path, list[str]]) -> None:
        folder, (enter, *commands) = project
        assert enter == "cd 'my shop'"
        done = {command: in_a_shell(f"{enter} && {command}", folder) for command in commands}
        assert {command: each.returncode for command, each in done.items()} == dict.fromkeys(commands, 0)
        assert re.search(r"Ran 4 tests in .*\n\nOK\n", done["make test"].stderr)
        assert json.loads(done["make run"].stdout.partition("final_output:\n")[2]) == {
            "item": "desk",
            "country": "DK",
            "net": 250.0,
            "percent": 25,
            "total": 312.5,
        }
        drawn = done["doubleweave viz my_shop --file my_shop.flow.json"].stdout.splitlines()
        assert drawn == ["[look_up_price] → [bill]", "[look_up_rate] → [bill]"]

    def test_each_command_of_its_readme_works(self, project: tuple[Path, list[str]]) -> None:
        folder = project[0] / "my shop"
        blocks = re.findall(r"```sh\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
        commands = [line for block in blocks for line in block.splitlines()]
        assert len(commands) == 6
        done = {command: in_a_shell(command, folder) for command in commands}
        assert {command: each.returncode for command, each in done.items()} == dict.fromkeys(commands, 0)
        assert '"total": 47.6' in next(each.stdout for command, each in done.items() if "--async" in command)
        assert done[commands[-1]].stdout.endswith("PASS\n")

    def test_its_tests_fail_when_a_tool_is_wrong(self, project: tuple[Path, list[str]], tmp_path: Path) -> None:
        for path in (project[0] / "my shop").iterdir():
            if path.is_file():
                text = path.read_text().replace('"desk": 250.0', '"desk": 251.0')
                (tmp_path / path.name).write_text(text)
        done = in_a_shell("make test", tmp_path)
        assert done.returncode == 2
        assert "FAILED (failures=3)" in done.stderr

    def test_pytest_runs_its_tests_too(self, project: tuple[Path, list[str]]) -> None:
        done = in_a_shell(f"{sys.executable} -m pytest -q -p no:cacheprovider", project[0] / "my shop")
        assert (done.returncode, "4 passed" in done.stdout) == (0, True)

    def test_it_is_checked_formatted_and_typed(self, project: tuple[Path, list[str]]) -> None:
        folder = project[0] / "my shop"
        for command in (
            "ruff check --isolated --no-cache --line-length 120 --select E,F,W,I,UP,B,C4,SIM,PIE,RET,RUF .",
            "ruff format --isolated --no-cache --line-length 120 --check .",
            "mypy --strict --cache-dir=/dev/null .",
        ):
            done = in_a_shell(f"{sys.executable} -m {command}", folder)
            assert done.returncode == 0, done.stdout + done.stderr

    def test_its_flow_has_nothing_that_a_check_finds(self, project: tuple[Path, list[str]]) -> None:
        folder = project[0] / "my shop"
        program = (
            "from doubleweave import check_flow, load_flow_file; import my_shop_tools as m; "
            "flow = load_flow_file('my_shop.flow.json'); "
            "tools = {each.name: each for each in (m.look_up_price, m.look_up_rate, m.bill)}; "
            "print(list(check_flow(flow, tools, allowed_modules=['my_shop_tools'])))"
        )
        done = in_a_shell(f'{sys.executable} -c "{program}"', folder)
        assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
        assert dw.load_flow_file(folder / "my_shop.flow.json").version == "1.0.0"
