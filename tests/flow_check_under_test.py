"""Models, tools and flows for tests of the static check."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from doubleweave import (
    AnyFlow,
    CheckReport,
    DAGFlow,
    DAGFlowStep,
    Flow,
    FlowStep,
    Tool,
    check_flow,
)

HERE = __name__


class Order(BaseModel):
    model_config = ConfigDict(strict=True)

    amount: int
    note: str
    urgent: bool = False


class Amount(BaseModel):
    amount: int


class Price(BaseModel):
    price: float


class Text(BaseModel):
    text: str


class Exact(BaseModel):
    model_config = ConfigDict(extra="forbid")

    amount: int


class Percent(BaseModel):
    share: Annotated[int, Field(ge=0, le=100)]


class Level(BaseModel):
    level: Literal["low", "high"]


class Moment(BaseModel):
    moment: datetime


class Handle(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    handle: "Unwritable"


class Unwritable:
    pass


class Address(BaseModel):
    city: str
    zip: str | None = None


class Person(BaseModel):
    person: Address


class Crowd(BaseModel):
    people: list[Address]


class Broken(Enum):
    VALUE = 1


def never(_: Any) -> dict[str, Any]:
    raise AssertionError("the check called a tool")


def tool(name: str, takes: Any, gives: Any, **options: Any) -> Tool:
    return Tool(name=name, description="", input_schema=takes, output_schema=gives, fn=never, **options)


TOOLS = {
    each.name: each
    for each in (
        tool("price", Amount, Price),
        tool("count", Amount, Amount),
        tool("exact", Exact, Price),
        tool("say", Text, Text),
        tool("share", Percent, Percent),
        tool("grade", Amount, Level),
        tool("when", Amount, Moment),
        tool("open", Amount, Handle),
        tool("find", Amount, Person),
        tool("meet", Amount, Crowd),
        tool("loose", {"type": "object", "properties": {"amount": {"type": "integer"}}}, {"type": "object"}),
        tool(
            "tight",
            {"type": "object", "properties": {"amount": {"type": "integer", "minimum": 1}}, "required": ["amount"]},
            {"type": "object", "properties": {"price": {"type": "number"}}, "additionalProperties": False},
        ),
        tool("odd", {"type": "object", "patternProperties": {"^a": {}}}, Price),
    )
}


def step(tool_name: str | None = None, **fields: Any) -> FlowStep:
    return FlowStep(tool_name=tool_name, **fields)


def linear(*steps: FlowStep, start: str | None = "Order", **fields: Any) -> Flow:
    ref = None if start is None else f"{HERE}:{start}"
    return Flow(name="f", description="", steps=list(steps), input_schema_ref=ref, **fields)


def dag(*steps: DAGFlowStep, **fields: Any) -> DAGFlow:
    return DAGFlow(name="f", version="1", description="", steps=list(steps), input_schema_ref=f"{HERE}:Order", **fields)


def node(step_id: str, tool_name: str, *depends_on: str, **fields: Any) -> DAGFlowStep:
    return DAGFlowStep(step_id=step_id, tool_name=tool_name, depends_on=list(depends_on), **fields)


def check(flow: AnyFlow, **options: Any) -> CheckReport:
    return check_flow(flow, TOOLS, **{"allowed_modules": [HERE], **options})


def found(flow: AnyFlow, **options: Any) -> list[tuple[str, str, int, str | None]]:
    return [(each.severity, each.kind, each.step_index, each.field) for each in check(flow, **options)]


def texts(flow: AnyFlow, **options: Any) -> list[str]:
    return [str(each) for each in check(flow, **options)]
