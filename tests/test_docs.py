"""The pages of docs/: every block of code in them is run, every public name has its place, and the site builds."""

import re
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager

import doubleweave
from browser_under_test import open_browser
from doc_pages import ROOT, blocks_of, examples_of, type_into, walk_through
from test_readme import PAGES

# Pages that a reader follows with files and commands, from the first line to the last.
WALKS = ["docs/tutorial.md", "docs/script.md", "docs/fastapi.md"]
NOTEBOOK = "docs/notebook.md"
# Pages, and blocks of the pages of examples, that tests of their own run.
ELSEWHERE = {"docs/cli.md": "test_cli_page.py"}
BLOCKS_ELSEWHERE = {
    "docs/migration.md": (["diff"], "test_migration_page.py"),
    "docs/testing.md": (["test_store.py", "test_order.py"], "test_testing_page.py"),
}
NAME = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)


def pages() -> list[str]:
    return sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", WALKS)
def test_a_page_can_be_followed_command_by_command(page: str, tmp_path: Path) -> None:
    walk_through(page, tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_of_examples_print_what_it_says(page: str, tmp_path: Path) -> None:
    for block in blocks_of(page):
        if block.language == "console":
            type_into(block.text, tmp_path)


def test_no_block_of_code_goes_unexecuted() -> None:
    executed = {*PAGES, *WALKS, NOTEBOOK, *ELSEWHERE}
    assert [page for page in pages() if blocks_of(page) and page not in executed] == []
    for page in PAGES:
        others = [each.title or each.language for each in blocks_of(page) if each.title or each.language == "diff"]
        assert others == BLOCKS_ELSEWHERE.get(page, ([], ""))[0], page
    tests = {*ELSEWHERE.values(), *(test for _, test in BLOCKS_ELSEWHERE.values())}
    assert [name for name in tests if not (ROOT / "tests" / name).is_file()] == []


CODE = "```python\nprint(1)\n```\n"


@pytest.mark.parametrize(
    "text",
    [
        CODE,
        f"<table>\n{CODE}{CODE}</table>\n",
        f"<table>\n{CODE}{CODE}</table>\n{CODE}",
        f"```yaml\na: 1\n```\n<table>\n{CODE}{CODE}</table>\n```text\n1\n```\n",
        f"<table>\n{CODE}{CODE}</table>\n```text\n1\n```\n{CODE}",
    ],
)
def test_a_block_in_no_example_is_found(text: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(text)
    with pytest.raises((AssertionError, IndexError)):
        examples_of(str(tmp_path / "page.md"))


@pytest.mark.parametrize("text", ["    ```python\n    1\n    ```\n", "~~~python\n1\n~~~\n", "```python {x}\n1\n```\n"])
def test_a_block_that_is_not_understood_is_found(text: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(AssertionError, match=r"page\.md"):
        blocks_of(str(tmp_path / "page.md"))


@pytest.mark.parametrize("text", [CODE, "```console\nprint(1)\n```\n", "```console\n$ python -V\nPython 2\n```\n"])
def test_a_walk_does_everything_or_fails(text: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(AssertionError):
        walk_through(str(tmp_path / "page.md"), tmp_path)


# --- the notebook ---------------------------------------------------------------------------------------------------


async def outputs_of(cells: list[str]) -> list[dict[str, Any]]:
    """Return what a notebook with these cells shows, cell after cell, as messages of its kernel."""
    kernel = AsyncKernelManager()
    await kernel.start_kernel()
    client = kernel.client()
    client.start_channels()
    shown: list[dict[str, Any]] = []
    try:
        await client.wait_for_ready(timeout=60)
        for cell in cells:
            await client.execute_interactive(cell, output_hook=shown.append, timeout=60)
    finally:
        client.stop_channels()
        await kernel.shutdown_kernel(now=True)
    return [each for each in shown if each["msg_type"] in ("stream", "execute_result", "error")]


@pytest.mark.parametrize("lane", ["blocking", "awaited"])
async def test_the_cells_of_the_notebook_page_work_on_both_lanes(
    lane: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    (example,) = examples_of(NOTEBOOK)
    printed, result = await outputs_of([*example.shared, getattr(example, lane)])
    assert printed["content"]["text"] == example.printed
    assert "average" in result["content"]["data"]["text/html"]


# --- the service ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["service", "service_async"])
def test_the_service_of_the_page_answers_under_a_real_server(module: str, tmp_path: Path) -> None:
    for block in blocks_of("docs/fastapi.md"):
        if block.title is not None:
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [sys.executable, "-m", "uvicorn", f"{module}:app", "--fd", str(listening.fileno())]
        server = subprocess.Popen(
            command, cwd=tmp_path, pass_fds=[listening.fileno()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            # The socket listens already, so that the first request waits until the server takes it.
            request = urllib.request.Request(
                f"http://127.0.0.1:{listening.getsockname()[1]}/orders",
                data=b'{"item": "desk", "count": 2}',
                headers={"content-type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert answer.read() == b'{"total":500.0}'
        finally:
            server.terminate()
            server.wait(timeout=30)


# --- the reference and the site -------------------------------------------------------------------------------------


def test_every_public_name_is_on_one_page_of_the_reference() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    names = Counter(name.rpartition(".")[2] for name in NAME.findall(text))
    assert {name: names[name] for name in doubleweave.__all__ if names[name] != 1} == {}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "tools/docs.py", "build", "--into", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (built.stderr, built.returncode) == ("", 0)
    return folder


def test_the_site_builds_without_a_warning(site: Path) -> None:
    assert (site / "index.html").is_file()
    built = {page.relative_to(site).with_suffix(".md").as_posix() for page in site.rglob("*.html")}
    assert built - {"404.md"} == {page.removeprefix("docs/") for page in pages()}


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loads = re.compile(
        r"""<(?:script|img|iframe|link(?! rel="(?:canonical|next|prev)))[^>]*?(?:src|href)="?(https?:|//)"""
    )
    fetches = re.compile(r"""(?:url\(|@import\s+)["']?(https?:|//)""")
    found = [page.name for page in site.rglob("*.html") if loads.search(page.read_text(encoding="utf-8"))]
    found += [sheet.name for sheet in site.rglob("*.css") if fetches.search(sheet.read_text(encoding="utf-8"))]
    assert found == []


def test_lanes_are_tabs_on_the_site(site: Path) -> None:
    page = (site / "stopping.html").read_text(encoding="utf-8")
    assert "<th>Blocking</th>" not in page
    assert page.count(">Blocking</label>") == page.count(">Awaited</label>") == 1


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    """Serve the site, and yield its address."""
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None: ...


def test_a_reader_searches_and_chooses_a_lane_without_a_request_to_elsewhere(served: str) -> None:
    requests: list[str] = []
    with open_browser() as browser:
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"{served}stopping.html")
        page.get_by_text("Awaited", exact=True).click()
        code = page.locator(".tabbed-block", has_text="execute_flow_async").locator("code").inner_text()
        assert "await executor.execute_flow_async(" in code
        page.locator("input.md-search__input").click()
        page.locator("input.md-search__input").press_sequentially("fallback")
        found = page.locator(".md-search-result__link").first
        found.wait_for()
        assert "fallback" in found.inner_text().lower()
        dark = browser.new_page(color_scheme="dark")
        dark.goto(served)
        dark.locator("body[data-md-color-scheme=slate]").wait_for()
    assert [url for url in requests if not url.startswith((served, "blob:", "data:"))] == []


def test_what_a_reader_copies_from_a_session_is_its_commands(served: str) -> None:
    with open_browser() as browser:
        page = browser.new_context(permissions=["clipboard-read", "clipboard-write"]).new_page()
        page.goto(f"{served}script.html")
        session = page.locator(".language-console", has_text="python outing.py harbour")
        session.hover()
        session.locator(".md-code__button[data-md-type=copy]").click()
        page.get_by_text("Copied to clipboard").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
    assert [line for line in copied.splitlines() if line] == ["python outing.py market", "python outing.py harbour"]
