"""Commands among tools, values, terminals and streams that do not behave, on both lanes."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from typing import Any

import pytest
from typer.testing import CliRunner

from cli_under_test import Shell
from doubleweave.cli import app, emit_envelope, main
from doubleweave.cli.plain import plain

pytest_plugins = ["cli_under_test"]
LANES = pytest.mark.parametrize("lane", [[], ["--async"]], ids=["sync", "async"])
ODD_TOOLS = """
import os, subprocess, sys
from doubleweave import Tool
from pydantic import BaseModel


class Anything(BaseModel):
    model_config = {"extra": "allow"}


class Panic(BaseException):
    pass


def odd(fn):
    return Tool(name=fn.__name__, description="odd", input_schema=Anything, output_schema=Anything, fn=fn)


@odd
def leaves(given):
    sys.exit(0)


@odd
def panics(given):
    raise Panic("all is lost")


@odd
def interrupts(given):
    raise KeyboardInterrupt


@odd
def starts_a_program(given):
    subprocess.run([sys.executable, "-c", "print('by a program')"], check=True)
    os.write(1, b"by the descriptor\\n")
    sys.__stdout__.write("by the stream\\n")
    return {}


@odd
def half_a_pair(given):
    return {"text": "a\\ud800"}


@odd
def no_text(given):
    return {"bytes": b"\\xff"}


@odd
def odd_keys(given):
    return {"by": {(1, 2): "pair"}}


@odd
def endless(given):
    found = {}
    found["self"] = found
    return {"endless": found}


@odd
def long_number(given):
    return {"number": 10**5000}


@odd
def reads_the_gate(given):
    open("gate").read()
    return {}


@odd
def passes(given):
    return {}
"""


@pytest.fixture
def odd(shell: Shell) -> Shell:
    shell.write("odd_tools.py", ODD_TOOLS)
    for name in re.findall(r"@odd\ndef (\w+)", ODD_TOOLS):
        write_flow(shell, name, name)
    return shell


def write_flow(shell: Shell, name: str, *tools: str) -> None:
    steps = [{"tool_name": each} for each in tools]
    flow = {"type": "Flow", "name": name, "version": "1.0", "description": "Odd", "steps": steps}
    shell.write(f"{name.replace(chr(10), '_')}.flow.json", json.dumps(flow))


def run_of(name: str, *more: str) -> list[str]:
    return ["run", f"{name}.flow.json", "-t", "odd_tools", "-i", "{}", *more]


def process(shell: Shell, *arguments: str, **how: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "doubleweave", *arguments]
    settings = {"cwd": shell.folder, "text": True, "encoding": "utf-8", "timeout": 60, "check": False, **how}
    return subprocess.run(command, stdout=subprocess.PIPE, **{"stderr": subprocess.PIPE, **settings})


class TestToolsThatEndTheProgram:
    @LANES
    @pytest.mark.parametrize(
        ("tool", "reason"), [("leaves", "SystemExit: 0"), ("panics", "Panic: all is lost")], ids=["exit", "panic"]
    )
    def test_cl_4_a_run_that_is_broken_off_is_a_failure(
        self, odd: Shell, lane: list[str], tool: str, reason: str
    ) -> None:
        called = odd(*run_of(tool, "--no-progress", *lane))
        line = f"doubleweave: the run was broken off by {reason}\n"
        assert (called.code, called.out, called.err) == (1, "", line)
        direct = CliRunner().invoke(app, run_of(tool, "--no-progress", *lane))
        assert (direct.exit_code, direct.stdout, direct.stderr) == (1, "", line)

    @LANES
    def test_cl_4_so_is_one_of_many(self, odd: Shell, lane: list[str]) -> None:
        line = "doubleweave: the run was broken off by SystemExit: 0\n"
        odd.write("none.json", "[{}]")
        attested = odd("attest", "leaves.flow.json", "-t", "odd_tools", "--seed-input", "none.json", *lane)
        fuzzed = odd("fuzz", "leaves.flow.json", "-t", "odd_tools", "-i", "{}", *lane)
        assert (attested.code, attested.out, attested.err) == (1, "", line)
        assert (fuzzed.code, fuzzed.out, fuzzed.err) == (1, "", line)

    @LANES
    def test_ctrl_c_in_a_tool_has_the_exit_code_of_shells(self, odd: Shell, lane: list[str]) -> None:
        assert odd(*run_of("interrupts", "--no-progress", *lane)).code == 130

    @pytest.mark.parametrize(
        ("error", "code", "line"),
        [
            (GeneratorExit("gone"), 1, "doubleweave: error: gone\n"),
            (AssertionError(), 1, "doubleweave: error: AssertionError\n"),
            (ValueError("\x1b[31mred"), 1, "doubleweave: error: \\x1b[31mred\n"),
            (KeyboardInterrupt(), 130, ""),
        ],
        ids=["base", "mute", "coloured", "interrupt"],
    )
    def test_cl_1_main_never_raises(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        error: BaseException,
        code: int,
        line: str,
    ) -> None:
        def fail(**_: Any) -> None:
            raise error

        monkeypatch.setattr("doubleweave.cli.app", fail)
        assert main([]) == code
        assert capsys.readouterr().err == line

    def test_cl_2_only_errors_of_the_library_are_told_with_their_code(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        class HttpError(Exception):
            code = 404

        def fail(**_: Any) -> None:
            raise HttpError("not there")

        monkeypatch.setattr("doubleweave.cli.app", fail)
        assert main([]) == 1
        assert capsys.readouterr().err == "doubleweave: error: not there\n"


class TestWhatToolsWrite:
    @LANES
    def test_en_4_programs_and_descriptors_do_not_write_to_stdout(self, odd: Shell, lane: list[str]) -> None:
        done = process(odd, *run_of("starts_a_program", "-f", "json", *lane))
        assert json.loads(done.stdout)["success"] is True
        assert sorted(done.stderr.splitlines()) == ["by a program", "by the descriptor", "by the stream"]

    def test_en_4_a_module_that_starts_a_program_does_not(self, odd: Shell) -> None:
        odd.write("loud.py", "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print(1)'])\n")
        done = process(odd, *run_of("passes", "-t", "loud", "-f", "json"))
        assert json.loads(done.stdout)["success"] is True
        assert done.stderr == "1\n"


class TestValuesThatJsonHasNoFormFor:
    @LANES
    @pytest.mark.parametrize(
        ("tool", "output"),
        [
            ("half_a_pair", {"text": "a\\ud800"}),
            ("no_text", {"bytes": "\\xff"}),
            ("odd_keys", {"by": {"1,2": "pair"}}),
        ],
    )
    def test_they_are_text_in_the_result_and_its_trace(
        self, odd: Shell, lane: list[str], tool: str, output: Any
    ) -> None:
        called = odd(*run_of(tool, "-f", "json", "--trace-out", "trace.json", *lane))
        assert (called.code, called.err) == (0, "")
        assert json.loads(called.out)["final_output"] == output
        assert json.loads((odd.folder / "trace.json").read_text(encoding="utf-8"))["final_output"] == output
        assert odd("profile", "trace.json").code == 0

    @LANES
    @pytest.mark.parametrize("tool", ["half_a_pair", "no_text", "odd_keys", "endless", "long_number"])
    def test_the_table_has_them_too(self, odd: Shell, lane: list[str], tool: str) -> None:
        called = odd(*run_of(tool, "--no-progress", *lane))
        assert (called.code, called.err) == (0, "")
        json.loads(called.out.partition("final_output:\n")[2])

    def test_an_envelope_has_them_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        emit_envelope({(1, 2): {3}})
        assert json.loads(capsys.readouterr().out)["data"] == {"(1, 2)": [3]}

    def test_what_contains_itself_ends_somewhere(self) -> None:
        endless: dict[str, Any] = {}
        endless["self"] = endless
        text = json.dumps(plain(endless))
        assert text.startswith('{"self": {"self": ')
        assert '"..."' in text

    def test_a_number_that_python_does_not_write_is_hexadecimal(self) -> None:
        assert plain([10**5000, 10**4000, True]) == [hex(10**5000), 10**4000, True]

    def test_an_input_with_half_a_pair_of_surrogates_is_printed(self, odd: Shell) -> None:
        called = odd("run", "passes.flow.json", "-t", "odd_tools", "-i", '{"a": "\\ud800"}', "-f", "json")
        assert (called.code, json.loads(called.out)["initial_input"]) == (0, {"a": "\\ud800"})


class TestStreams:
    @LANES
    def test_a_run_needs_no_stderr(self, odd: Shell, lane: list[str]) -> None:
        command = [sys.executable, "-m", "doubleweave", *run_of("starts_a_program", *lane)]
        script = 'exec 2>&-; exec "$@"'
        done = subprocess.run(["sh", "-c", script, "sh", *command], cwd=odd.folder, stdout=subprocess.PIPE, text=True)
        assert done.returncode == 0
        assert done.stdout.endswith("final_output:\n{}\n")

    def test_what_an_encoding_lacks_is_an_escape(self, shell: Shell) -> None:
        environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
        done = process(shell, "viz", "numbers", "--file", "numbers.flow.yaml", env=environment, encoding="latin-1")
        assert (done.returncode, done.stdout, done.stderr) == (0, "[double] \\u2192 [increase]\n", "")

    def test_ds_7_there_may_be_no_stdin(self, odd: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", None)
        called = odd("run", "passes.flow.json", "-t", "odd_tools", "--input-file", "-")
        assert (called.code, called.out, called.err) == (2, "", "doubleweave: there is no stdin to read\n")

    def test_ds_7_an_input_file_may_begin_with_a_byte_order_mark(self, odd: Shell) -> None:
        odd.write("input.json", '\ufeff{"a": 1}')
        called = odd("run", "passes.flow.json", "-t", "odd_tools", "--input-file", "input.json", "-f", "json")
        assert (called.code, json.loads(called.out)["initial_input"]) == (0, {"a": 1})

    @LANES
    def test_a_result_is_printed_though_its_trace_cannot_be_written(self, odd: Shell, lane: list[str]) -> None:
        called = odd(*run_of("passes", "-f", "json", "--trace-out", "/dev/full", *lane))
        assert (called.code, json.loads(called.out)["success"]) == (2, True)
        assert called.err == "doubleweave: /dev/full cannot be written: No space left on device\n"

    def test_a_trace_is_written_though_its_result_cannot_be_printed(self, odd: Shell) -> None:
        command = [sys.executable, "-m", "doubleweave", *run_of("passes", "--trace-out", "trace.json")]
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run(command, cwd=odd.folder, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1
        assert done.stderr.endswith("doubleweave: error: [Errno 28] No space left on device\n")
        assert json.loads((odd.folder / "trace.json").read_text())["success"] is True


class TestOptions:
    @LANES
    def test_cl_5_a_place_for_snapshots_is_a_directory(self, odd: Shell, lane: list[str]) -> None:
        odd.write("taken", "")
        called = odd(*run_of("passes", "--checkpoint-dir", "taken", *lane))
        assert (called.code, called.out, called.err) == (2, "", "doubleweave: not a directory: taken\n")

    @pytest.mark.parametrize(
        "command",
        [
            ["validate"],
            ["check"],
            ["run"],
            ["run", "--async"],
            ["profile"],
            ["inspect", "a", "--file"],
            ["dump-schema", "--check", "--output"],
            ["doctor", "flow", "--preflight"],
            ["init"],
        ],
    )
    def test_cl_4_a_path_that_cannot_be_looked_up_is_a_missing_one(self, shell: Shell, command: list[str]) -> None:
        name = "x" * 300
        called = shell(*command, name)
        assert (called.code, called.out) == (2, "")
        assert called.err == f"doubleweave: {name} cannot be read: File name too long\n"

    def test_a_deadline_is_a_number(self, odd: Shell) -> None:
        called = odd(*run_of("passes", "--deadline", "nan"))
        assert (called.code, called.out) == (2, "")
        assert called.err == "doubleweave: --deadline must be a number of seconds\n"

    def test_4_4_a_file_has_one_line_whatever_is_in_its_names(self, shell: Shell) -> None:
        write_flow(shell, "two\nlines", "double")
        broken = shell.write("broken\nINVALID.flow.json", "[")
        assert shell("validate", "two_lines.flow.json").out == "OK       two_lines.flow.json: two\\nlines v1.0 [Flow]\n"
        assert shell("validate", broken.name).err.startswith("INVALID  broken\\nINVALID.flow.json: ")
        called = shell("check", ".")
        assert len(called.out.splitlines()) == 5
        assert len(called.err.splitlines()) == 1


def on_terminal(shell: Shell, arguments: list[str], columns: int, **environment: str) -> tuple[int, str]:
    """Run a command on a terminal of some width; return its exit code and what it wrote, without colours."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    known = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-m", "doubleweave", *arguments],
        cwd=shell.folder,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**known, "TERM": "xterm", **environment},
    ) as started:
        os.close(follower)
        text = b"".join(iter(lambda: _read(leader), b"")).decode()
    os.close(leader)
    return started.returncode, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    # The other end of a terminal is closed.
    except OSError:
        return b""


class TestTerminals:
    @LANES
    @pytest.mark.parametrize("columns", [30, 60, 71, 72, 80])
    def test_the_number_of_steps_has_room_on_any_terminal(self, shell: Shell, lane: list[str], columns: int) -> None:
        write_flow(shell, "a flow with a name that is rather long", "double", "increase")
        name = "a flow with a name that is rather long.flow.json"
        code, text = on_terminal(shell, ["run", name, "-t", "number_tools", "-i", '{"value": 1}', *lane], columns)
        shown = [line for line in re.split(r"[\r\n]+", text.partition("Flow: ")[0]) if line]
        assert code == 0
        assert all(len(line) <= columns for line in shown)
        assert any("a fl" in line and " 2/2 0:00:0" in line for line in shown)

    @LANES
    def test_a_terminal_that_cannot_change_a_line_gets_lines(self, shell: Shell, lane: list[str]) -> None:
        arguments = ["run", "numbers.flow.yaml", "-t", "number_tools", "-i", '{"value": 1}', *lane]
        code, text = on_terminal(shell, arguments, 80, TERM="dumb")
        assert code == 0
        assert [line[:15] for line in text.splitlines()[:3]] == [
            "numbers: 2 step",
            "[1/2] double: o",
            "[2/2] increase:",
        ]


class TestRunsThatAreInterrupted:
    @LANES
    def test_4_2_ctrl_c_tells_how_to_go_on_and_what_is_done_already(self, odd: Shell, lane: list[str]) -> None:
        write_flow(odd, "waits", "passes", "reads_the_gate", "passes")
        os.mkfifo(odd.folder / "gate")
        command = [sys.executable, "-m", "doubleweave", *run_of("waits", "--checkpoint-dir", "kept", *lane)]
        with subprocess.Popen(command, cwd=odd.folder, stderr=subprocess.PIPE, text=True) as started:
            # Opening it waits until the tool reads it.
            with open(odd.folder / "gate", "w"):
                started.send_signal(signal.SIGINT)
                # The async lane waits for the thread of its tool, which ends with the file.
            _, err = started.communicate(timeout=60)
        assert started.returncode == 130
        (kept,) = (odd.folder / "kept").iterdir()
        trace_id = kept.name.partition(".")[0]
        assert err.splitlines()[-1] == f"doubleweave: interrupted; `doubleweave resume {trace_id}` goes on with it"
        odd.write("quick_tools.py", ODD_TOOLS.replace('open("gate").read()', "pass"))
        where = ["--checkpoint-dir", "kept", "--file", "waits.flow.json"]
        called = odd("resume", trace_id, *where, "-t", "quick_tools", *lane)
        assert called.code == 0
        assert [re.sub(r"\d+\.\d ms", "# ms", line) for line in called.err.splitlines()] == [
            "waits: 3 steps, 1 of them done before",
            "[2/3] reads_the_gate: ok (# ms)",
            "[3/3] passes: ok (# ms)",
        ]
