"""The page as one HTML file: style, script and data inlined, nothing to load."""

import base64
import hashlib
import json
import re
from functools import cache
from html import escape
from importlib.resources import files

from doubleweave.models.flows import AnyFlow
from doubleweave.models.product import PRODUCT, __version__
from doubleweave.models.records import ExecutionResult
from doubleweave.models.redaction import RedactionPolicy
from doubleweave.pages.compare import compared_rows
from doubleweave.pages.data import Curtain, Data, rows_data, run_data
from doubleweave.pages.graph import graph_data

DEFAULT_REDACTION = RedactionPolicy()


def run_page(
    result: ExecutionResult,
    *,
    flow: AnyFlow | None = None,
    other: ExecutionResult | None = None,
    redaction: RedactionPolicy | None = DEFAULT_REDACTION,
) -> str:
    """Return a finished run as an HTML page that needs no network and no other file.

    Whatever the run's values are, none of them is ever markup or code of the page, and the page may load nothing.

    Args:
        result: The run.
        flow: The flow that ran; the page then draws its graph and names its branches.
        other: A second run, which is shown beside the first.
        redaction: What is masked in inputs, outputs and messages; None for nothing.

    Raises:
        ValueError: `flow` has another name than the flow that ran.
        DAGDefinitionError: `flow` is no valid DAG.
    """
    if flow is not None and flow.name != result.flow_name:
        raise ValueError(f"the run is one of flow '{result.flow_name}', not of '{flow.name}'")
    return render(report_data(result, flow, other, Curtain(redaction)))


def report_data(result: ExecutionResult, flow: AnyFlow | None, other: ExecutionResult | None, curtain: Curtain) -> Data:
    """Return what the page shows of a run that has ended."""
    runs = [run_data(each, curtain) for each in (result, other) if each is not None]
    rows = rows_data(result, curtain) if other is None else compared_rows(result, other, curtain)
    return {"runs": runs, "rows": rows, "graph": flow and graph_data(flow)}


def render(data: Data, *, live: bool = False) -> str:
    """Return the page that shows `data`; a live one is fed by the address `events` beside it."""
    style, script = _part("page.css"), _script()
    sources = {"default": "'none'", "style": _hash(style), "script": _hash(script), "img": "data:"}
    policy = "; ".join(f"{kind}-src {source}" for kind, source in sources.items())
    connect = "'self'" if live else "'none'"
    parts = {
        "policy": f"{policy}; connect-src {connect}; base-uri 'none'; form-action 'none'",
        "title": _unicode(escape(f"{data['runs'][0]['flow']} · {PRODUCT}")),
        "style": style,
        "script": script,
        "data": json_in_html({**data, "live": live, "product": f"{PRODUCT} {__version__}"}),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _part("page.html"))


def json_in_html(data: Data) -> str:
    """Return JSON that ends no element of a page and is Unicode, whatever is in it."""
    return _unicode(json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))


def _unicode(text: str) -> str:
    """Return a text with an escape for each lone surrogate; JSON reads it as what it was."""
    return text.encode("utf-8", "backslashreplace").decode()


@cache
def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    """Return the parts of the script as the body of one function."""
    parts = ("base", "head", "timeline", "graph", "table", "detail", "input", "live")
    return "".join(['"use strict";\n(() => {\n', *(_part(f"{name}.js") for name in parts), "})();\n"])


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
