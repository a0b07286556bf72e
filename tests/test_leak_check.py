"""The check of `conftest.py` bites: a test that leaves something behind is refused, with its name."""

import asyncio
from pathlib import Path
from textwrap import dedent

import pytest

pytest_plugins = ["pytester"]

TESTS = Path(__file__).resolve().parent
LEAKS = """
    import asyncio
    import threading

    kept = []


    async def work():
        await asyncio.sleep(0)


    async def last_for_ever():
        await asyncio.Event().wait()


    def test_thread():
        kept.append(threading.Event())
        threading.Thread(target=kept[-1].wait, name="stray", daemon=True).start()


    def test_busy_worker():
        kept.append(threading.Event())
        threading.Thread(target=kept[-1].wait, name="doubleweave-tool-slow", daemon=True).start()


    async def test_task():
        task = asyncio.create_task(last_for_ever(), name="stray")
        await asyncio.sleep(0)


    def test_task_of_a_closed_loop():
        loop = asyncio.new_event_loop()
        kept.append(loop.create_task(last_for_ever(), name="stray"))
        loop.run_until_complete(work())
        loop.close()


    def test_coroutine_that_is_kept():
        kept.append(work())


    def test_coroutine_in_garbage():
        ring = [work()]
        ring.append(ring)


    def test_coroutine_that_is_dropped():
        work()


    def test_coroutine_half_way():
        kept.append(work())
        kept[-1].send(None)


    def test_loop_that_is_kept():
        kept.append(asyncio.new_event_loop())


    def test_loop_in_garbage():
        ring = [asyncio.new_event_loop()]
        ring.append(ring)
"""
LOOP = asyncio.SelectorEventLoop.__name__
CLEAN = """
    import asyncio
    import threading

    import pytest


    async def wait():
        await asyncio.sleep(0)


    @pytest.fixture
    async def helper():
        task = asyncio.create_task(asyncio.Event().wait())
        yield
        task.cancel()


    async def test_task(helper):
        await asyncio.create_task(wait())


    def test_loop():
        asyncio.run(wait())


    def test_thread_that_winds_down():
        threading.Timer(0.05, print).start()


    def test_worker_that_goes_idle():
        def work():
            threading.Event().wait(0.05)
            threading.current_thread().name = "doubleweave-worker"
            ended.wait(10)

        ended = threading.Event()
        thread = threading.Thread(target=work, name="doubleweave-tool-slow", daemon=True)
        thread.start()


    def test_coroutine():
        wait().close()
"""


def summary(pytester: pytest.Pytester, source: str, patience: float) -> tuple[dict[str, int], list[str]]:
    """Run tests under the check and the settings of the project; return the outcomes and a line for each failure."""
    (pytester.path / "tests").mkdir()
    pytester.makepyprojecttoml((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    conftest = (TESTS / "conftest.py").read_text(encoding="utf-8")
    (pytester.path / "tests/conftest.py").write_text(conftest.replace("_SECONDS = 5.0", f"_SECONDS = {patience}"))
    (pytester.path / "tests/test_it.py").write_text(dedent(source))
    result = pytester.runpytest_subprocess("-W", "error")
    return result.parseoutcomes(), [line for line in result.outlines if line.startswith(("FAILED ", "ERROR "))]


REFUSED = {
    "test_thread": "thread 'stray'",
    "test_busy_worker": "thread 'doubleweave-tool-slow'",
    "test_task": "task 'stray' of last_for_ever",
    "test_task_of_a_closed_loop": "task 'stray' of last_for_ever",
    "test_coroutine_that_is_kept": "coroutine work, which was never awaited",
    "test_coroutine_in_garbage": "coroutine work, which was never awaited",
    "test_coroutine_half_way": "coroutine sleep, which was never finished; coroutine work, which was never finished",
    "test_loop_that_is_kept": f"event loop {LOOP}, which was never closed",
    "test_loop_in_garbage": f"event loop {LOOP}, which was never closed",
}


def test_each_leak_is_refused_by_name(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    lines = summary(pytester, LEAKS, 0.1)[1]
    # Python itself complains of the coroutine that is dropped, and says so in words of its own.
    dropped = {line for line in lines if "::test_coroutine_that_is_dropped - " in line}
    found = {line.partition("::")[2] for line in lines if line not in dropped}
    assert found == {f"{test} - Failed: left behind: {what}" for test, what in REFUSED.items()}
    assert "coroutine" in "".join(dropped)


def test_what_ends_in_time_is_not_refused(pytester: pytest.Pytester) -> None:
    assert summary(pytester, CLEAN, 30) == ({"passed": 5}, [])
