"""What the page of the command line shows is what its commands print, on both lanes."""

import re
from pathlib import Path

import pytest

from console_pages import Command, blocks_of_no_use, read_page, run_command, without_times

PAGE = read_page("docs/cli.md")
ON_A_LANE = re.compile(r"doubleweave (run|resume|attest|fuzz|watch) ")


RUNS = [command for command in PAGE.commands if ON_A_LANE.search(command.line)]


@pytest.mark.parametrize(("lane", "commands"), [("", PAGE.commands), (" --async", RUNS)], ids=["sync", "async"])
def test_each_command_prints_what_stands_below_it(lane: str, commands: list[Command], tmp_path: Path) -> None:
    for name, text in PAGE.files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    shown, printed = [], []
    for line, below in commands:
        shown.append(f"$ {line}\n{without_times(below)}")
        on_lane = ON_A_LANE.sub(lambda found: f"{found[0].rstrip()}{lane} ", line)
        printed.append(f"$ {line}\n{without_times(run_command(on_lane, tmp_path))}")
    assert printed == shown


def test_the_commands_of_the_readme_print_what_stands_below_them(tmp_path: Path) -> None:
    commands = read_page("README.md").commands
    assert [each.line.split()[0] for each in commands] == ["doubleweave", "cd", "cd", "cd"]
    for line, below in commands:
        assert without_times(run_command(line, tmp_path)) == without_times(below)


def test_the_page_shows_a_flow_and_its_tools() -> None:
    assert set(PAGE.files) == {"order.flow.yaml", "shop.py", "idea.flow.yaml", "orders.json"}
    assert len(PAGE.commands) > 20


@pytest.mark.parametrize(
    "block",
    [
        "```python\nprint(1)\n```\n",
        '```python title="shop.py"\nprint(1)\n```\n',
        "```console\ndoubleweave --version\n```\n",
    ],
)
def test_every_block_of_the_page_is_a_file_or_commands_and_another_one_is_found(block: str, tmp_path: Path) -> None:
    assert blocks_of_no_use("docs/cli.md") == []
    page = tmp_path / "page.md"
    page.write_text(f"`a.py`:\n\n```python\n```\n\n{block}", encoding="utf-8")
    assert len(blocks_of_no_use(str(page))) == 1
