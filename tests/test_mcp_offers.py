"""Which flows are offered, and as what: looked at without a server."""

import asyncio
import subprocess
import sys
from typing import Any

import mcp
import pytest
from mcp import types
from pydantic import BaseModel, ConfigDict, Field

from doubleweave import (
    AnyFlow,
    AsyncFlowExecutor,
    ConditionalEdge,
    DAGFlow,
    DAGFlowStep,
    Flow,
    FlowExecutor,
    FlowRegistry,
    FlowStatus,
    FlowStep,
    SideEffectLevel,
    Tool,
    ToolSafetyContract,
)
from doubleweave.mcp import FlowServer, Limits
from doubleweave.mcp.schemas import input_document, output_schema


class Given(BaseModel):
    n: int
    note: str = ""


class Made(BaseModel):
    model_config = ConfigDict(extra="forbid")
    double: int


class Inner(BaseModel):
    n: int


class Nested(BaseModel):
    inner: Inner


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    total: int = Field(alias="theTotal")


def made(name: str, level: str | None = "read", takes: Any = Given, gives: Any = Made) -> Tool:
    safety = None if level is None else ToolSafetyContract(side_effects=SideEffectLevel(level))
    return Tool(name=name, description="", input_schema=takes, output_schema=gives, fn=lambda _: {}, safety=safety)


TOOLS = [
    *(made(name) for name in ("read", "read_more")),
    made("none", "none"),
    made("write", "write"),
    made("destroy", "destructive"),
    made("undeclared", None),
    made("nest", takes=Nested),
    made("alias", gives=Aliased),
]


def step(tool_name: str | None = "read", **fields: Any) -> FlowStep:
    return FlowStep(tool_name=tool_name, **fields)


def node(step_id: str, tool_name: str | None = "read", **fields: Any) -> DAGFlowStep:
    return DAGFlowStep(step_id=step_id, tool_name=tool_name, **fields)


def flow(name: str, *steps: FlowStep, **fields: Any) -> Flow:
    return Flow(name=name, description="", steps=list(steps), **fields)


def graph(name: str, *steps: DAGFlowStep, **fields: Any) -> DAGFlow:
    return DAGFlow(name=name, version="1", description="", steps=list(steps), **fields)


def executor(*flows: AnyFlow, kind: Any = AsyncFlowExecutor) -> Any:
    registry = FlowRegistry()
    for each in flows:
        registry.register_flow(each)
    made = kind(registry)
    for tool in TOOLS:
        made.register_tool(tool)
    return made


WRITER = flow("writer", step("write"))


@pytest.mark.parametrize("kind", [FlowExecutor, AsyncFlowExecutor])
@pytest.mark.parametrize(
    ("given", "why"),
    [
        (flow("f", step()), None),
        (flow("f", step("none"), step("read", on_error="fallback:read_more")), None),
        (flow("f", step(None, flow_name="reader")), None),
        (flow("f", step("write")), "tool 'write' has side effects 'write', above 'read'"),
        (flow("f", step("none"), step("destroy")), "tool 'destroy' has side effects 'destructive', above 'read'"),
        (
            flow("f", step("undeclared")),
            "tool 'undeclared' has no safety contract (give it safety=ToolSafetyContract(...)), above 'read'",
        ),
        (flow("f", step("read"), step("absent")), "tool 'absent' is not registered, above 'read'"),
        (flow("f", step(on_error="fallback:write")), "tool 'write' has side effects 'write', above 'read'"),
        (
            flow("f", step(decision_candidates=["read", "write"])),
            "tool 'write' has side effects 'write', above 'read'",
        ),
        (flow("f", step(None, flow_name="writer")), "tool 'write' has side effects 'write', above 'read'"),
        (flow("f", step(None, flow_name="absent")), "Flow 'absent' is not registered, above 'read'"),
        (
            flow("f", step(), safety=ToolSafetyContract(side_effects=SideEffectLevel.EXTERNAL)),
            "flow 'f' declares side effects 'external', above 'read'",
        ),
        # What a flow says of itself makes nothing of its tools harmless.
        (
            flow("f", step("write"), safety=ToolSafetyContract(side_effects=SideEffectLevel.NONE)),
            "tool 'write' has side effects 'write', above 'read'",
        ),
        (
            graph("f", node("a", step_type="capability", capability_id="x")),
            "step 'read' calls a capability, whose side effects are not known, above 'read'",
        ),
        (flow("f", step(), status=FlowStatus.DISABLED), "its status is 'disabled'"),
        (flow("f", step(), status=FlowStatus.NEEDS_REVIEW), "its status is 'needs_review'"),
        (
            flow("f", step(), input_schema_ref="nowhere:Model"),
            "its schema is not known: Cannot define tool from function 'f': input_schema_ref of flow 'f': ",
        ),
        (flow("f"), "its schema is not known: Cannot define tool from function 'f': flow 'f' has no steps"),
    ],
)
def test_only_active_flows_that_only_read_are_offered(given: AnyFlow, why: str | None, kind: Any) -> None:
    server = FlowServer(executor(given, WRITER, flow("reader", step()), kind=kind), flows=["f"])
    assert server.offered() == ([] if why else ["f"])
    refused = server.refused()
    assert refused.pop("writer") == refused.pop("reader") == "it is not among the flows to be offered"
    assert list(refused) == (["f"] if why else [])
    assert refused.get("f", "").startswith(why or "")


def test_a_name_that_no_tool_can_have_is_not_offered() -> None:
    server = FlowServer(executor(flow("two words", step()), flow("x" * 129, step()), flow("x" * 128, step())))
    assert server.offered() == ["x" * 128]
    assert server.refused()["two words"].startswith("its name cannot be a tool's")


class Moody(BaseModel):
    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> Any:
        raise LookupError("not today")


def test_a_model_that_has_no_schema_does_not_keep_other_flows_from_being_offered() -> None:
    made_executor = executor(flow("moody", step("moody")), flow("reader", step()))
    made_executor.register_tool(made("moody", takes=Moody))
    server = FlowServer(made_executor)
    assert server.offered() == ["reader"]
    assert server.refused() == {"moody": "its schema is not known: LookupError: not today"}


def test_more_is_offered_where_more_is_allowed() -> None:
    flows = flow("reader", step()), WRITER, flow("unknown", step("undeclared")), flow("none", step("none"))

    def offered(level: Any) -> list[str]:
        return FlowServer(executor(*flows), max_side_effect_level=level).offered()

    assert offered(SideEffectLevel.NONE) == ["none"]
    assert offered("write") == ["none", "reader", "writer"]
    assert offered(SideEffectLevel.DESTRUCTIVE) == ["none", "reader", "unknown", "writer"]
    with pytest.raises(ValueError, match="'some' is not a valid SideEffectLevel"):
        offered("some")


def test_it_is_looked_at_anew_each_time() -> None:
    made_executor = executor(flow("f", step()))
    server = FlowServer(made_executor)
    assert server.offered() == ["f"]
    made_executor.register_tool(made("read", "write"))
    assert server.offered() == []
    made_executor.register_tool(made("read"))
    made_executor.registry.register_flow(flow("f", step("write"), version="2"))
    assert server.offered() == []


@pytest.mark.parametrize(
    ("given", "properties", "required"),
    [
        (flow("f", step()), {"n": "integer", "note": "string"}, ["n"]),
        (flow("f", step(input_mapping={"n": "number", "note": 7})), {"number": "integer"}, ["number"]),
        (flow("f", step(input_mapping={"n": "/order/number"})), {"order": None}, ["order"]),
        (flow("f", step(None, flow_name="reader")), {"n": "integer", "note": "string"}, ["n"]),
        (flow("f", step(None, flow_name="reader", input_mapping={"n": "m"})), {"m": "integer"}, ["m"]),
        (
            graph("f", node("a"), node("b", "nest"), node("c", depends_on=["a", "b"])),
            {"inner": None, "n": "integer", "note": "string"},
            ["n", "inner"],
        ),
        (flow("f", step(), input_schema_ref="test_mcp_offers:Inner"), {"n": "integer"}, ["n"]),
    ],
)
def test_the_input_schema_says_what_the_first_steps_need(
    given: AnyFlow, properties: dict[str, str | None], required: list[str]
) -> None:
    document = input_document(given, executor(given, flow("reader", step())))
    assert document["type"] == "object"
    assert {name: each.get("type") for name, each in document["properties"].items()} == properties
    assert document["required"] == required


@pytest.mark.parametrize(
    ("given", "required"),
    [
        (flow("f", step()), ["double"]),
        (flow("f", step("alias")), ["total"]),
        (graph("f", node("a"), node("b", depends_on=["a"])), ["double"]),
        (flow("f", step(), output_schema_ref="test_mcp_offers:Inner"), ["n"]),
        (flow("f", step(output_mapping={"d": "double"})), None),
        (flow("f", step(on_error="skip")), None),
        (flow("f", step(on_error="fallback:read_more")), None),
        (flow("f", step(decision_candidates=["read", "none"])), None),
        (flow("f", step(None, flow_name="reader")), None),
        (graph("f", node("a"), node("b")), None),
        (
            graph(
                "f",
                node("a", branches=[ConditionalEdge(target_step_id="b", predicate="n > 1")]),
                node("b", depends_on=["a"]),
            ),
            None,
        ),
    ],
)
def test_the_output_schema_says_only_what_holds_for_every_run(given: AnyFlow, required: list[str] | None) -> None:
    schema = output_schema(given, executor(given, flow("reader", step())))
    assert (None if schema is None else schema.document["required"]) == required
    # The final output has the keys of all steps.
    assert schema is None or "additionalProperties" not in schema.document


@pytest.mark.parametrize("name", ["call_seconds", "calls_at_once", "input_bytes", "output_bytes"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_is_above_zero(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be above zero, not {value!r}$"):
        Limits(**{name: value})
    assert Limits() == Limits(call_seconds=60.0, calls_at_once=8, input_bytes=1_048_576, output_bytes=1_048_576)


def test_without_the_sdk_importing_it_names_the_extra() -> None:
    code = (
        "import sys\nsys.modules['mcp'] = None\nimport doubleweave\n"
        "try:\n    import doubleweave.mcp\nexcept ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == 'doubleweave.mcp needs the MCP SDK: pip install "doubleweave[mcp]"\n'


@pytest.mark.parametrize("kind", [FlowExecutor, AsyncFlowExecutor])
def test_what_is_replaced_inside_a_wrapped_flow_is_stopped_by_the_ceiling_of_the_executor(kind: Any) -> None:
    """A tool made of a flow keeps its contract; the page on MCP says what to do."""
    inner, registry = flow("inner", step()), FlowRegistry()
    ran: list[str] = []

    def note(given: Any) -> dict[str, Any]:
        ran.append("called")
        return {"double": 2}

    guarded = kind(registry, max_side_effect_level=SideEffectLevel.READ)
    registry.register_flow(inner)
    for tool in TOOLS:
        guarded.register_tool(tool.with_fn(note))
    guarded.register_tool(Tool.from_flow(inner, guarded, name="wrapped"))
    registry.register_flow(flow("outer", step("wrapped"), on_context_collision="overwrite"))
    registry.register_flow(flow("inner", step("write"), version="9"))
    assert FlowServer(guarded).offered() == ["outer"]

    async def called() -> types.CallToolResult:
        async with mcp.Client(FlowServer(guarded)._sdk_server(False)) as client:
            return await client.call_tool("outer", {"n": 1})

    result = asyncio.run(called())
    assert result.is_error
    assert "'write'" in result.model_dump_json()
    assert ran == []
