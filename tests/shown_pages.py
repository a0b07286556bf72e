"""Fixtures for pages of runs in a real browser."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

import doubleweave as dw
from browser_under_test import Shown, open_browser
from pages_under_test import run_on


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as found:
        yield found


@pytest.fixture
def on_thread() -> Callable[..., dw.ExecutionResult]:
    """Return what runs a flow on a lane, away from the thread on which the browser's own loop runs."""

    def run(*arguments: Any) -> dw.ExecutionResult:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(run_on, *arguments).result()

    return run


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Shown:
    return Shown(browser, tmp_path / "run.html")
