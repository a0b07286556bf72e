"""The entry point of the command line: exit codes, errors, help, completion."""

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import doubleweave.cli
from cli_under_test import Called, Shell
from doubleweave import ToolNotFoundError
from doubleweave.cli import _error_line, app, emit_envelope, main
from doubleweave.cli.history import SWITCH, Forecast, History
from doubleweave.models.product import __version__

pytest_plugins = ["cli_under_test"]
COMMANDS = [
    *("attest", "check", "diff", "dump-schema", "explain", "fuzz", "init", "inspect", "profile", "report", "resume"),
    *("run", "serve", "validate", "viz", "watch"),
]


def names_of(group: typer.Typer) -> list[str]:
    return sorted(
        [str(each.name) for each in group.registered_commands] + [str(each.name) for each in group.registered_groups]
    )


class TestMain:
    @pytest.mark.parametrize(
        ("outcome", "code"),
        [
            (typer.Exit(3), 3),
            (typer.Exit(), 0),
            (SystemExit(4), 4),
            (SystemExit("text"), 0),
            (SystemExit(), 0),
            (5, 5),
            (None, 0),
        ],
    )
    def test_cl_2_ends_are_exit_codes(self, monkeypatch: pytest.MonkeyPatch, outcome: Any, code: int) -> None:
        def end(**_: Any) -> Any:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr(doubleweave.cli, "app", end)
        assert main([]) == code

    @pytest.mark.parametrize(
        ("error", "line"),
        [
            (ToolNotFoundError("t"), "doubleweave: [CW-E001] Tool 't' is not registered.\n"),
            (ValueError("odd"), "doubleweave: error: odd\n"),
        ],
    )
    def test_cl_2_errors_are_a_line_and_exit_code_1(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, line: str
    ) -> None:
        def end(**_: Any) -> Any:
            raise error

        monkeypatch.setattr(doubleweave.cli, "app", end)
        assert (main([]), *capsys.readouterr()) == (1, "", line)

    @pytest.mark.parametrize(
        "arguments", [["gone"], ["run", "--gone"], ["run"], ["validate", "x.flow.json", "-f", "xml"], ["flows", "gone"]]
    )
    def test_cl_2_wrong_usage_is_exit_2_in_both_ways(self, shell: Shell, arguments: list[str]) -> None:
        called = shell(*arguments)
        assert (called.code, called.out) == (2, "")
        assert called.err.startswith("Usage: doubleweave")
        assert CliRunner().invoke(app, arguments).exit_code == 2

    @pytest.mark.parametrize("arguments", [[], ["flows"], ["doctor"]])
    def test_cl_1_a_bare_name_prints_help(self, shell: Shell, arguments: list[str]) -> None:
        bare, asked = shell(*arguments), shell(*arguments, "--help")
        assert (bare.code, bare.err) == (0, "")
        assert "Usage: doubleweave" in bare.out
        assert bare.out.strip() == asked.out.strip()

    def test_cl_3_the_line_of_an_error(self) -> None:
        assert _error_line(ToolNotFoundError("t")) == "doubleweave: [CW-E001] Tool 't' is not registered."
        assert _error_line(ValueError("odd\x1b[2J")) == "doubleweave: odd\\x1b[2J"

    def test_a_library_error_ends_a_command_alike_however_it_is_called(self, shell: Shell) -> None:
        text = "type: Flow\nname: n\nversion: odd\ndescription: ''\nsteps: [{tool_name: t}]"
        shell.write("n.flow.yaml", text)
        command = ["run", "n.flow.yaml", "-i", "{}"]
        called, invoked = shell(*command), CliRunner().invoke(app, command)
        assert called == Called(invoked.exit_code, invoked.stdout, invoked.stderr)
        assert re.fullmatch(r"doubleweave: \[CW-E\d{3}\] .*'n'.*\n", called.err)
        assert called.code == 1

    @pytest.mark.parametrize("module", ["doubleweave", "doubleweave.cli"])
    def test_cl_1_a_module_is_run(self, module: str) -> None:
        done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == (f"doubleweave {__version__}\n", "")

    def test_without_the_extra_it_says_what_to_install(self) -> None:
        program = "import sys; sys.modules['typer'] = None; from doubleweave.__main__ import main; sys.exit(main())"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (
            2,
            "",
            'doubleweave.cli needs typer and rich: pip install "doubleweave[cli]"\n',
        )


class TestEnvelope:
    def test_en_1_exactly_four_keys(self, capsys: pytest.CaptureFixture[str]) -> None:
        emit_envelope({"a": Path("b")}, status="error", errors=[{"code": None, "message": "m"}])
        assert json.loads(capsys.readouterr().out) == {
            "schema_version": "1",
            "status": "error",
            "data": {"a": "b"},
            "errors": [{"code": None, "message": "m"}],
        }

    def test_en_1_nothing_is_wrong_by_default(self, capsys: pytest.CaptureFixture[str]) -> None:
        emit_envelope([])
        text = capsys.readouterr().out
        assert text.startswith('{\n  "schema_version": "1",\n')
        assert json.loads(text) == {"schema_version": "1", "status": "ok", "data": [], "errors": []}


FORMATTED = [
    ("run", "numbers.flow.yaml", "-t", "number_tools", "-i", '{"value": 1}', "--no-progress"),
    ("validate", "numbers.flow.yaml"),
    ("check", "."),
    ("inspect", "numbers", "--file", "numbers.flow.yaml"),
    ("flows", "list", "--discover-dir", "."),
    ("doctor", "flow", "numbers.flow.yaml", "--preflight"),
    ("profile", "t.json"),
    ("diff", "t.json", "t.json"),
    ("attest", "numbers.flow.yaml", "-t", "number_tools", "--seed-input", "inputs.json"),
    ("fuzz", "numbers.flow.yaml", "-t", "number_tools", "-i", '{"value": 1}', "--runs", "1"),
]


@pytest.mark.parametrize("command", FORMATTED, ids=lambda command: command[0])
def test_cl_6_the_format_is_taken_in_any_case(shell: Shell, command: tuple[str, ...]) -> None:
    shell.write("inputs.json", '[{"value": 1}]')
    shell("run", "numbers.flow.yaml", "-t", "number_tools", "-i", '{"value": 1}', "-q", "--trace-out", "t.json")
    table, json_ = shell(*command, "--format", "Table"), shell(*command, "-f", "JSON")
    assert (table.code, json_.code, json_.err) == (0, 0, "")
    assert isinstance(json.loads(json_.out), dict)
    with pytest.raises(ValueError, match=r"Expecting value|Extra data"):
        json.loads(table.out)
    default, other = (json_, table) if command[0] == "attest" else (table, json_)
    first = shell(*command).out[:1]
    assert (first, default.out[:1] != other.out[:1]) == (default.out[:1], True)


class TestCommands:
    def test_cl_9_every_command_has_its_section_in_the_reference(self) -> None:
        page = Path(__file__).parent.parent.joinpath("docs", "cli.md").read_text(encoding="utf-8")
        groups = {str(each.name): each.typer_instance for each in app.registered_groups}
        names = [name for name in names_of(app) if name not in groups]
        names += [f"{group} {name}" for group, found in groups.items() if found is not None for name in names_of(found)]
        assert sorted(re.findall(r"^### `(.*)`$", page, re.MULTILINE)) == sorted(names)

    def test_every_command_is_there(self) -> None:
        assert names_of(app) == sorted([*COMMANDS, "doctor", "flows"])

    def test_cl_8_completion_can_be_installed(self, shell: Shell) -> None:
        text = shell("--help").out
        assert "--install-completion" in text
        assert "--show-completion" in text

    def test_cl_8_commands_are_completed(self) -> None:
        environment = {
            **os.environ,
            "_DOUBLEWEAVE_COMPLETE": "complete_bash",
            "COMP_WORDS": "doubleweave va",
            "COMP_CWORD": "1",
        }
        program = "import sys; from doubleweave.cli import main; sys.exit(main([]))"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
        )
        assert done.stdout.split() == ["validate"]

    def test_help_imports_no_more_than_it_has_to(self) -> None:
        program = (
            "import sys\nfrom doubleweave.cli import main\nmain(['--help'])\n"
            "print(sorted({'pydantic', 'yaml', 'deepdiff', 'mcp', 'asyncio', 'jsonschema'} & set(sys.modules)), file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stderr == "[]\n"


def on_terminal(arguments: list[str], folder: Path) -> str:
    """Return what a command shows on a terminal."""
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "XDG_CONFIG_HOME": str(folder / "config")}
    process = subprocess.Popen(
        [sys.executable, "-m", "doubleweave", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=its,
        stdin=its,
        cwd=folder,
        env=environment,
    )
    os.close(its)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() in (0, 1)
    return shown.decode()


@pytest.mark.parametrize("lane", [[], ["--async"]], ids=["sync", "async"])
class TestProgress:
    def test_elsewhere_there_is_a_line_for_each_event(self, shell: Shell, lane: list[str]) -> None:
        shell.write(
            "special.flow.yaml",
            "type: Flow\nname: special\ndescription: ''\nsteps:\n"
            "  - {tool_name: stumble, retry: {max_retries: 1, backoff_seconds: 0}}\n"
            "  - {tool_name: refuse, on_error: skip}\n"
            "  - {flow_name: failing}\n",
        )
        called = shell(
            "run", "special.flow.yaml", "-t", "number_tools", "-i", '{"value": 1}', "--discover-dir", ".", *lane
        )
        assert re.sub(r"\d+\.\d ms", "# ms", called.err).splitlines()[:5] == [
            "special: 3 steps",
            "step 0 stumble: attempt 1 failed: OSError: not yet",
            "[1/3] stumble: ok (# ms)",
            "[2/3] refuse: skipped (# ms)",
            re.sub(r"\d+\.\d ms", "# ms", called.err).splitlines()[4],
        ]
        assert called.err.splitlines()[4].startswith("[3/3] failing: failed: ")

    def test_json_has_none_unless_it_is_asked_for(self, shell: Shell, lane: list[str]) -> None:
        command = ("run", "numbers.flow.yaml", "-t", "number_tools", "-i", '{"value": 1}', "-f", "json", *lane)
        assert shell(*command).err == ""
        assert shell(*command, "--progress").err.startswith("numbers: 2 steps\n")

    def test_on_a_terminal_it_is_a_display_that_goes_away(self, shell: Shell, lane: list[str]) -> None:
        shown = on_terminal(
            ["run", "numbers.flow.yaml", "-t", "number_tools", "-i", '{"value": 1}', *lane], shell.folder
        )
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
        assert "numbers" in plain
        assert "2/2" in plain
        # The last thing that is written takes the line away.
        assert re.search(r"\x1b\[2K\S*$", shown)

    def test_what_is_left_is_known_by_history(self, shell: Shell, lane: list[str]) -> None:
        command = ("run", "numbers.flow.yaml", "-t", "number_tools", "-i", '{"value": 1}', *lane)
        first, second = shell(*command), shell(*command)
        assert first.err.splitlines()[0] == "numbers: 2 steps"
        assert second.err.splitlines()[0] == "numbers: 2 steps, less than 1 s left"
        [kept] = (shell.folder / "config").rglob("*.json")
        assert set(json.loads(kept.read_text())[0]) == {"total", "steps"}

    def test_nothing_is_remembered_when_it_is_not_to_be(
        self, shell: Shell, lane: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(SWITCH, "off")
        shell("run", "numbers.flow.yaml", "-t", "number_tools", "-i", '{"value": 1}', *lane)
        assert not (shell.folder / "config").exists()


class TestForecast:
    def history(self, shell: Shell, runs: Any) -> History:
        path = History("f", "1")._path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(runs if isinstance(runs, str) else json.dumps(runs))
        return History("f", "1")

    def test_the_usual_total_is_spread_over_what_is_not_done(self, shell: Shell) -> None:
        runs = [{"total": total, "steps": {"0": 100, "1": 300}} for total in (3000, 1000, 2000)]
        forecast = Forecast(self.history(shell, runs))
        assert forecast.left_seconds() == 2.0
        forecast.finished(0)
        assert [forecast.left_seconds(), forecast.left_seconds(1.0), forecast.left_seconds(9.0)] == [1.5, 0.5, 0.0]

    @pytest.mark.parametrize(
        "runs", ["", "{", "3", "[3]", [], [{"total": "x", "steps": {}}], [{"total": 0, "steps": {}}]]
    )
    def test_what_tells_nothing_tells_nothing(self, shell: Shell, runs: Any) -> None:
        assert Forecast(self.history(shell, runs)).left_seconds() is None


def test_help_starts_in_less_than_half_more_than_a_bare_program_takes() -> None:
    bare = "import typer\napp = typer.Typer()\n"
    bare += "".join(f"@app.command()\ndef {name}(text: str) -> None: ...\n" for name in ("run", "walk"))
    programs = [bare + "app(['--help'])", "from doubleweave.cli import app\napp(['--help'])"]
    times: list[list[float]] = [[], []]
    for _ in range(9):
        for program, taken in zip(programs, times, strict=True):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
            taken.append(time.perf_counter() - start)
    # The fastest of each is what they take when nothing else runs.
    assert min(times[1]) / min(times[0]) < 1.5
