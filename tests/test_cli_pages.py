"""The commands that show runs in a browser, on both lanes."""

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import doubleweave as dw
from cli_under_test import Shell
from live_pages_under_test import ask, connected

pytest_plugins = ["cli_under_test"]
LANES = pytest.mark.parametrize("lane", [[], ["--async"]], ids=["sync", "async"])
NUMBERS = ("numbers.flow.yaml", "--tools", "number_tools")
URL = re.compile(r"http://127\.0\.0\.1:\d+/[\w-]{43}/")


def trace(
    shell: Shell, name: str = "run.json", flow: str = "numbers.flow.yaml", value: str = '{"value": 20}'
) -> dw.ExecutionResult:
    shell("run", flow, "-t", "number_tools", "-i", value, "--trace-out", name, "--no-progress", "-q")
    return dw.ExecutionResult.model_validate_json((shell.folder / name).read_text(encoding="utf-8"))


def written(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_report_writes_the_page_of_a_run(shell: Shell) -> None:
    result = trace(shell)
    called = shell("report", "run.json", "-o", "pages/run.html")
    assert (called.code, called.out, called.err) == (0, "wrote pages/run.html\n", "")
    assert written(shell.folder / "pages/run.html") == dw.run_page(result)


def test_report_draws_the_flow_and_a_second_run(shell: Shell) -> None:
    result, other = trace(shell), trace(shell, "other.json", value='{"value": 1}')
    called = shell("report", "run.json", "-o", "run.html", "--flow", "numbers.flow.yaml", "--compare", "other.json")
    assert called.code == 0
    flow = dw.load_flow_file(shell.folder / "numbers.flow.yaml")
    assert written(shell.folder / "run.html") == dw.run_page(result, flow=flow, other=other)


def test_os_2_report_masks_secrets_unless_told_not_to(shell: Shell) -> None:
    result = trace(shell)
    secret = result.model_copy(update={"initial_input": {"value": 20, "password": "correct horse"}})
    shell.write("secret.json", secret.model_dump_json())
    shell("report", "secret.json", "-o", "masked.html")
    shell("report", "secret.json", "-o", "open.html", "--no-redact")
    assert "correct horse" not in written(shell.folder / "masked.html")
    assert "correct horse" in written(shell.folder / "open.html")


def test_report_says_what_is_wrong_with_its_files(shell: Shell) -> None:
    trace(shell)
    shell.write("odd.json", "{}")
    for arguments, code, error in [
        (["gone.json", "-o", "a.html"], 2, "doubleweave: file not found: gone.json\n"),
        (["odd.json", "-o", "a.html"], 1, "doubleweave: malformed trace file odd.json: flow_name: Field required\n"),
        (["run.json", "-o", "a.html", "--compare", "gone.json"], 2, "doubleweave: file not found: gone.json\n"),
        (["run.json", "-o", "a.html", "--flow", "gone.flow.yaml"], 2, "doubleweave: file not found: gone.flow.yaml\n"),
        (
            ["run.json", "-o", "a.html", "--flow", "choice.flow.yaml"],
            1,
            "doubleweave: run.json is a run of flow 'numbers', not of 'choice'\n",
        ),
    ]:
        called = shell("report", *arguments)
        assert (called.code, called.out, called.err) == (code, "", error)
        assert not (shell.folder / "a.html").exists()


@LANES
def test_watch_ends_with_the_run_when_so_asked(shell: Shell, lane: list[str]) -> None:
    called = shell("watch", *NUMBERS, "-i", '{"value": 20}', "--exit", "--trace-out", "run.json", *lane)
    url, outcome = called.out.splitlines()
    assert URL.fullmatch(url)
    assert re.fullmatch(r"succeeded after 2 steps and \d+\.\d ms", outcome)
    assert (called.code, called.err) == (0, "")
    assert dw.ExecutionResult.model_validate_json(written(shell.folder / "run.json")).final_output == {"value": 41}


@LANES
def test_watch_tells_the_outcome_before_it_cannot_write_the_trace(shell: Shell, lane: list[str]) -> None:
    called = shell("watch", *NUMBERS, "-i", '{"value": 20}', "--exit", "--trace-out", "/dev/full", *lane)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\S+/\nsucceeded after 2 steps and \d+\.\d ms\n", called.out)
    assert (called.code, called.err) == (2, "doubleweave: /dev/full cannot be written: No space left on device\n")


@LANES
def test_watch_has_the_exit_code_of_the_run(shell: Shell, lane: list[str]) -> None:
    called = shell("watch", "failing.flow.yaml", "-t", "number_tools", "-i", '{"value": 2}', "--exit", *lane)
    assert called.code == 1
    assert re.fullmatch(r"failed after 2 steps and \d+\.\d ms", called.out.splitlines()[1])
    assert called.err == (
        "doubleweave: step 1 (tool 'refuse') failed: Execution error in tool 'refuse' at step 1: 4 is refused\n"
    )


@LANES
def test_watch_says_what_the_run_raised(shell: Shell, lane: list[str]) -> None:
    shell.write("off.flow.yaml", f"{written(shell.folder / 'numbers.flow.yaml')}status: disabled\n")
    called = shell("watch", "off.flow.yaml", "-t", "number_tools", "-i", '{"value": 2}', "--exit", *lane)
    assert called.code == 1
    assert called.err.startswith("doubleweave: [CW-E011] ")


def test_watch_says_what_is_wrong_before_it_serves(shell: Shell) -> None:
    for arguments, code, error in [
        (["gone.flow.yaml", "-i", "{}"], 2, "doubleweave: file not found: gone.flow.yaml\n"),
        (["numbers.flow.yaml", "-t", "gone", "-i", "{}"], 2, "doubleweave: tools module not importable: gone: "),
        (["numbers.flow.yaml", "-i", "{"], 1, "doubleweave: malformed JSON in --input: "),
        (["numbers.flow.yaml"], 1, "doubleweave: give the initial input: --input "),
    ]:
        called = shell("watch", *arguments)
        assert (called.code, called.out, called.err[: len(error)]) == (code, "", error)


def test_watch_warns_when_others_may_see_the_page(shell: Shell) -> None:
    called = shell("watch", *NUMBERS, "-i", '{"value": 20}', "--exit", "--host", "0.0.0.0")
    assert called.code == 0
    assert called.err.startswith(
        "doubleweave: warning: the page is served on 0.0.0.0, to other machines too, and not encrypted"
    )


def test_watch_says_when_it_cannot_listen(shell: Shell) -> None:
    with dw.LivePage(dw.load_flow_file(shell.folder / "numbers.flow.yaml")) as page:
        port = page.url.split(":")[2].split("/")[0]
        called = shell("watch", *NUMBERS, "-i", '{"value": 20}', "--port", port)
    assert (called.code, called.out, called.err) == (
        1,
        "",
        f"doubleweave: cannot listen at 127.0.0.1, port {port}: Address already in use\n",
    )


@contextmanager
def process(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "doubleweave.cli", "watch", *arguments]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def line_of(started: "subprocess.Popen[str]") -> str:
    assert started.stdout is not None
    return started.stdout.readline().rstrip("\n")


@LANES
def test_watch_serves_until_it_is_interrupted(shell: Shell, lane: list[str]) -> None:
    with process(shell.folder, *NUMBERS, "-i", '{"value": 20}', *lane) as started:
        url = line_of(started)
        assert line_of(started).startswith("succeeded after 2 steps and ")
        assert line_of(started) == "The page stays there until Ctrl-C."
        page = ask(url).body.decode()
        assert ('"live":false' in page, '\\"value\\": 41' in page) == (True, True)
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=60)
        assert (started.returncode, out, err) == (0, "", "")


WAITING = """
import asyncio

from doubleweave import tool
from number_tools import Number, increase


@tool
async def double(value: int) -> Number:
    await asyncio.sleep(3600)
    return Number(value=value)
"""
READING = """
from doubleweave import tool
from number_tools import Number, increase


@tool
def double(value: int) -> Number:
    with open("gate") as gate:
        return Number(value=len(gate.read()))
"""
STOPPING = "doubleweave: the run is being stopped; Ctrl-C once more ends it at once\n"


def read_until_it_runs(response: http.client.HTTPResponse) -> None:
    while b'"name":"double","state":"running"' not in (line := response.readline()):
        assert line


def test_watch_stops_at_the_next_step_when_it_is_interrupted(shell: Shell) -> None:
    shell.write("reading_tools.py", READING)
    os.mkfifo(shell.folder / "gate")
    with process(shell.folder, "numbers.flow.yaml", "-t", "reading_tools", "-i", '{"value": 20}') as started:
        url = line_of(started)
        with connected(f"{url}events") as response, open(shell.folder / "gate", "w") as gate:
            read_until_it_runs(response)
            started.send_signal(signal.SIGINT)
            assert started.stderr is not None
            assert started.stderr.readline() == STOPPING
            gate.close()
            rest = response.read().decode()
        out, err = started.communicate(timeout=60)
    assert '"name":"increase"' not in rest
    assert '"trouble":"[CW-E012] ' in rest
    assert (started.returncode, err[:23]) == (1, "doubleweave: [CW-E012] ")
    assert re.fullmatch(r"failed after 1 step and \d+\.\d ms\n", out)


def test_watch_ends_at_once_when_it_is_interrupted_again(shell: Shell) -> None:
    shell.write("reading_tools.py", READING)
    os.mkfifo(shell.folder / "gate")
    run = process(shell.folder, "numbers.flow.yaml", "-t", "reading_tools", "-i", '{"value": 20}')
    with run as started, open(shell.folder / "gate", "w"):
        started.send_signal(signal.SIGINT)
        assert started.stderr is not None
        assert started.stderr.readline() == STOPPING
        started.send_signal(signal.SIGINT)
        assert started.wait(60) == 130


def test_watch_stops_a_step_of_the_async_lane_when_it_is_interrupted(shell: Shell) -> None:
    shell.write("waiting_tools.py", WAITING)
    with process(shell.folder, "numbers.flow.yaml", "-t", "waiting_tools", "-i", '{"value": 20}', "--async") as started:
        url = line_of(started)
        with connected(f"{url}events") as response:
            read_until_it_runs(response)
            started.send_signal(signal.SIGINT)
            rest = response.read().decode()
        out, err = started.communicate(timeout=60)
    assert '"trouble":"CancelledError"' in rest
    assert (started.returncode, out, err) == (1, "", f"{STOPPING}doubleweave: stopped before the run had ended\n")
