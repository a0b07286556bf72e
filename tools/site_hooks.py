"""What the site shows otherwise than a host of code does: of the tables with a lane in each column it makes tabs."""

import re
from textwrap import indent

_TABLE = re.compile(r"<table>\n<tr>(?P<heads>(?:<th>.*?</th>)+)</tr>\n(?P<rows>.*?)</table>\n", re.DOTALL)
_CELL = re.compile(r"<td>\n(.*?)</td>", re.DOTALL)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the tables of a page; mkdocs calls this."""
    return _TABLE.sub(_as_tabs, markdown)


def _as_tabs(table: re.Match[str]) -> str:
    heads = re.findall("<th>(.*?)</th>", table["heads"])
    cells = _CELL.findall(table["rows"])
    columns = [cells[number :: len(heads)] for number in range(len(heads))]
    tabs = [f'=== "{head}"\n\n{indent("".join(column), " " * 4)}' for head, column in zip(heads, columns, strict=True)]
    return "\n\n".join(tabs) + "\n"
