"""The `@tool` decorator: models read off a function, what is refused, and plain and async functions as tools."""

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationError

import doubleweave as dw
from doubleweave import tool
from lanes_under_test import Case, Number, assert_same_on_both_lanes, number_tool
from parity_scenarios import inc, linear, step


class Pair(BaseModel):
    left: int
    right: int = 2


@tool
def add(left: int, right: Annotated[int, Field(ge=0, description="not negative")] = 2) -> Number:
    """
    Add two numbers.
    """
    return Number(n=left + right)


@tool
async def add_async(left: int, right: int = 2) -> Number:
    """Add two numbers, later."""
    await asyncio.sleep(0)
    return Number(n=left + right)


def run(made: dw.Tool, raw: dict[str, Any]) -> Any:
    return made.run(raw)


def run_async(made: dw.Tool, raw: dict[str, Any]) -> Any:
    return asyncio.run(made.run_async(raw))


directly = pytest.mark.parametrize("call", [run, run_async])
either = pytest.mark.parametrize("made", [add, add_async], ids=["plain", "async"])


# --- what is made ---------------------------------------------------------------------------------------------------


def test_t_2_t_32_t_37_name_description_and_limits_default() -> None:
    assert isinstance(add, dw.Tool)
    assert (add.name, add.description, repr(add)) == ("add", "Add two numbers.", "Tool(name='add')")
    assert (add.timeout_seconds, add.max_output_size, add.schema_version) == (None, None, "0.0.0")
    assert (add.cacheable, add.safety, add.safety_declared, add.metadata) == (True, dw.ToolSafetyContract(), False, {})


def test_t_32_a_function_without_a_docstring_has_an_empty_description() -> None:
    @tool
    def bare(n: int) -> Number:
        return Number(n=n)

    assert bare.description == ""


def test_t_32_t_33_t_34_t_37_the_factory_passes_its_arguments_on() -> None:
    @tool(
        name="plus",
        description="",
        output_schema=Pair,
        timeout_seconds=9.5,
        max_output_size=24,
        schema_version="3",
        cacheable=False,
    )
    def made(left: int) -> dict[str, int]:
        """Not used."""
        return {"left": left}

    assert (made.name, made.description, made.output_schema) == ("plus", "", Pair)
    assert (made.timeout_seconds, made.max_output_size, made.schema_version) == (9.5, 24, "3")
    assert (made.cacheable, made.safety.cacheable) == (False, False)
    assert made.input_schema.__name__ == "plus_input"
    assert made.run({"left": 1}) == {"left": 1, "right": 2}
    with pytest.raises(dw.ToolOutputSizeError):
        made.run({"left": 10**20})


@pytest.mark.parametrize("decorate", [tool, tool()])
def test_bare_and_called_without_arguments_are_the_same(decorate: Callable[[Any], dw.Tool]) -> None:
    def f(n: int) -> Number:
        return Number(n=n)

    made = decorate(f)
    assert (made.name, made.run({"n": 1}), made.schema_hash) == ("f", {"n": 1}, tool(f).schema_hash)


def test_arguments_other_than_the_function_are_keyword_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        tool(None, "name")  # type: ignore[call-overload]  # what is refused


def test_t_33_t_34_the_input_model_has_a_field_for_each_parameter() -> None:
    assert add.input_schema.model_json_schema() == {
        "title": "add_input",
        "type": "object",
        "properties": {
            "left": {"title": "Left", "type": "integer"},
            "right": {
                "title": "Right",
                "type": "integer",
                "default": 2,
                "minimum": 0,
                "description": "not negative",
            },
        },
        "required": ["left"],
    }
    assert add.output_schema is Number


def test_t_33_keyword_only_parameters_and_none_as_a_default_are_fields_too() -> None:
    @tool
    def f(a: str | None = None, *, b: list[int]) -> Number:
        return Number(n=len(b) + (a is None))

    assert f.input_schema.model_json_schema()["required"] == ["b"]
    assert f.run({"b": [1, "2"]}) == {"n": 3}


def test_t_33_a_function_without_parameters_takes_an_empty_input() -> None:
    @tool
    def f() -> Number:
        return Number(n=7)

    assert f.input_schema.model_json_schema() == {"title": "f_input", "type": "object", "properties": {}}
    assert f.run({}) == {"n": 7}


def test_t_33_a_mutable_default_is_not_shared_between_calls() -> None:
    @tool
    def f(items: list[int] = []) -> Number:  # noqa: B006  # the point of the test
        items.append(1)
        return Number(n=len(items))

    assert [f.run({}) for _ in range(3)] == [{"n": 1}] * 3


def test_t_33_a_parameter_may_be_called_like_a_method_of_models() -> None:
    @tool
    def f(json: str, copy: int, schema: dict[str, int]) -> Number:
        return Number(n=len(json) + copy + schema["n"])

    assert f.run({"json": "ab", "copy": "3", "schema": {"n": 4}}) == {"n": 9}


def test_t_33_annotations_that_are_text_are_resolved() -> None:
    def f(n: "int") -> "Number":
        return Number(n=n)

    assert tool(f).run({"n": "4"}) == {"n": 4}


def test_t_34_output_schema_wins_over_the_annotation() -> None:
    @tool(output_schema=Number)
    def f(n: int) -> Pair:
        return Pair(left=n)

    assert f.output_schema is Number
    with pytest.raises(ValidationError, match="n\n  Field required"):
        f.run({"n": 1})


# --- how it is called -----------------------------------------------------------------------------------------------


def test_t_35_calling_it_calls_the_function_without_validation() -> None:
    assert add(1, right=-5) == Number(n=-4)
    received: list[Any] = []

    @tool
    def note(n: int) -> Number:
        received.append(n)
        return "anything"  # type: ignore[return-value]  # not validated

    assert note("text") == "anything"
    assert received == ["text"]
    with pytest.raises(TypeError):
        note()


async def test_t_35_t_39_calling_an_async_one_gives_its_coroutine() -> None:
    coroutine = add_async(1)
    assert inspect.iscoroutine(coroutine)
    assert await coroutine == Number(n=3)


@directly
@either
@pytest.mark.parametrize(("raw", "n"), [({"left": 1}, 3), ({"left": "1", "right": 5, "ignored": 1}, 6)])
def test_t_36_t_39_as_a_tool_it_is_called_with_the_validated_fields(
    call: Any, made: dw.Tool, raw: dict[str, Any], n: int
) -> None:
    assert call(made, raw) == {"n": n}


@directly
@either
def test_t_36_a_wrong_input_fails_before_the_call(call: Any, made: dw.Tool) -> None:
    with pytest.raises(ValidationError) as caught:
        call(made, {"left": "one"})
    assert caught.value.title == f"{made.name}_input"


def test_t_36_parameters_that_are_models_arrive_as_plain_data() -> None:
    @tool
    def f(pair: Pair) -> Number:
        assert isinstance(pair, dict)
        assert pair == {"left": 1, "right": 2}
        return Number(n=3)

    assert f.run({"pair": {"left": 1}}) == {"n": 3}


@directly
@pytest.mark.parametrize(
    ("value", "outputs"),
    [
        (Number(n=1), {"n": 1}),
        (Pair(left=1), None),
        ({"n": "1", "dropped": 1}, {"n": 1}),
        (None, None),
        (5, None),
    ],
)
def test_t_36_a_returned_model_is_dumped_and_anything_else_validated(call: Any, value: Any, outputs: Any) -> None:
    @tool(output_schema=Number)
    def plain() -> Any:
        return value

    @tool(output_schema=Number)
    async def later() -> Any:
        return value

    for made in (plain, later):
        if outputs is None:
            with pytest.raises(ValidationError):
                call(made, {})
        else:
            assert call(made, {}) == outputs


def test_t_39_async_functions_are_async_tools() -> None:
    assert (add.is_async, add_async.is_async) == (False, True)


async def test_t_39_t_14_run_of_an_async_one_inside_a_loop_is_refused() -> None:
    with pytest.raises(dw.ToolDefinitionError, match="execute_flow_async") as caught:
        add_async.run({"left": 1})
    assert caught.value.function_name == "add_async"


@directly
@pytest.mark.parametrize("asynchronous", [False, True])
def test_t_13_t_15_t_16_t_39_a_time_limit_holds(call: Any, asynchronous: bool) -> None:
    release = threading.Event()

    @tool(timeout_seconds=0.02)
    def hang() -> Number:
        return Number(n=release.wait(timeout=30))

    @tool(timeout_seconds=0.02)
    async def hang_async() -> Number:
        await asyncio.Event().wait()
        return Number(n=0)

    made = hang_async if asynchronous else hang
    with pytest.raises(dw.ToolTimeoutError) as caught:
        call(made, {})
    release.set()
    assert (caught.value.tool_name, caught.value.timeout_seconds) == (made.name, 0.02)


@either
def test_t_36_t_39_in_a_flow_it_shows_the_same_on_both_lanes(made: dw.Tool) -> None:
    case = Case([linear(step(made.name), step("inc"))], lambda: [made, number_tool("inc", inc)], {"left": 1})
    seen = assert_same_on_both_lanes(case)
    assert seen.result is not None
    assert seen.result.final_output == {"left": 1, "n": 4}
    case.inputs = {"left": "one"}
    seen = assert_same_on_both_lanes(case)
    assert seen.result is not None
    assert seen.result.execution_log[0].error_type == "SchemaValidationError"


def test_an_error_of_the_function_is_recorded_the_same_on_both_lanes() -> None:
    @tool
    async def later(n: int) -> Number:
        raise ValueError("not today")

    seen = assert_same_on_both_lanes(Case([linear(step("later"))], lambda: [later]))
    assert seen.result is not None
    assert seen.result.execution_log[0].error_message == ("Execution error in tool 'later' at step 0: not today")


def test_a_bound_method_may_be_a_tool() -> None:
    class Counter:
        count = 0

        def up(self, by: int) -> Number:
            self.count += by
            return Number(n=self.count)

    counter = Counter()
    made = tool(counter.up)
    assert [made.run({"by": 2}), made(3), made.name] == [{"n": 2}, Number(n=5), "up"]


def test_a_wrapped_function_keeps_its_own_signature() -> None:
    def f(n: int) -> Number:
        return Number(n=n)

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Number:
        return Number(n=-f(*args, **kwargs).n)

    assert tool(wrapper).run({"n": 1}) == {"n": -1}


# --- T-38: what is refused ------------------------------------------------------------------------------------------


class NoModel:
    pass


def unresolved(n: "Nowhere") -> Number:  # type: ignore[name-defined]  # noqa: F821  # what is refused
    raise AssertionError


def unresolved_return(n: int) -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821  # what is refused
    raise AssertionError


def no_type(n: "1 + 'a'") -> Number:  # type: ignore[valid-type]  # noqa: F821  # what is refused
    raise AssertionError


def no_return(n: int):  # type: ignore[no-untyped-def]  # what is refused
    raise AssertionError


def returns_dict(n: int) -> dict[str, int]:
    raise AssertionError


def returns_none(n: int) -> None:
    raise AssertionError


def returns_either(n: int) -> Number | None:
    raise AssertionError


def positional(n: int, /) -> Number:
    raise AssertionError


def variadic(*args: int) -> Number:
    raise AssertionError


def keywords(n: int, **kwargs: int) -> Number:
    raise AssertionError


def unannotated(n: int, m=1) -> Number:  # type: ignore[no-untyped-def]  # what is refused
    raise AssertionError


def private(_n: int) -> Number:
    raise AssertionError


def clashing(model_dump: int) -> Number:
    raise AssertionError


def shapeless(n: NoModel) -> Number:
    raise AssertionError


async def no_return_async(n: int):  # type: ignore[no-untyped-def]  # what is refused
    raise AssertionError


# Each kind of signature that describes no tool, in the words of the rule where it has some.
REFUSED: list[tuple[str, Callable[..., Any], Any, list[str]]] = [
    ("type hints do not resolve (NameError, TypeError)", unresolved, None, ["Failed to resolve type hints", "Nowhere"]),
    (
        "type hints do not resolve (NameError, TypeError)",
        unresolved,
        Number,
        ["Failed to resolve type hints", "Nowhere"],
    ),
    (
        "type hints do not resolve (NameError, TypeError)",
        unresolved_return,
        None,
        ["Failed to resolve type hints", "Nowhere"],
    ),
    ("type hints do not resolve (NameError, TypeError)", no_type, None, ["Failed to resolve type hints"]),
    (
        "output_schema is not a BaseModel subclass",
        returns_dict,
        NoModel,
        ["output_schema must be a BaseModel", "NoModel"],
    ),
    (
        "output_schema is not a BaseModel subclass",
        returns_dict,
        Number(n=1),
        ["output_schema must be a BaseModel", "Number(n=1)"],
    ),
    ("output_schema is not a BaseModel subclass", returns_dict, dict, ["output_schema must be a BaseModel", "dict"]),
    ("no return annotation and no output_schema", no_return, None, ["Missing a return type", "output_schema"]),
    ("no return annotation and no output_schema", no_return_async, None, ["Missing a return type", "output_schema"]),
    (
        "return annotation is not a BaseModel subclass",
        returns_dict,
        None,
        ["must be a BaseModel subclass", "output_schema", "dict[str, int]"],
    ),
    (
        "return annotation is not a BaseModel subclass",
        returns_none,
        None,
        ["must be a BaseModel subclass", "output_schema"],
    ),
    (
        "return annotation is not a BaseModel subclass",
        returns_either,
        None,
        ["must be a BaseModel subclass", "output_schema"],
    ),
    ("positional-only parameter", positional, None, ["positional-only parameters", "'n'"]),
    ("*args or **kwargs", variadic, None, ["*args or **kwargs", "'args'"]),
    ("*args or **kwargs", keywords, None, ["*args or **kwargs", "'kwargs'"]),
    ("unannotated parameter", unannotated, None, ["missing a type annotation", "'m'"]),
    ("private parameter", private, None, ["parameter '_n' starts with an underscore"]),
    ("parameter that clashes", clashing, None, ["no input model can be made of its parameters", "model_dump"]),
    ("parameter without a schema", shapeless, None, ["no input model can be made of its parameters", "NoModel"]),
]


@pytest.mark.parametrize(
    ("function", "output_schema", "fragments"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
@pytest.mark.parametrize("name", [None, "label"])
def test_t_38_a_signature_that_describes_no_tool_is_refused(
    function: Callable[..., Any], output_schema: Any, fragments: list[str], name: str | None
) -> None:
    with pytest.raises(dw.ToolDefinitionError) as caught:
        tool(name=name, output_schema=output_schema)(function)
    error = caught.value
    assert error.function_name == function.__name__
    assert [fragment for fragment in fragments if fragment not in error.detail] == []
    assert str(error) == f"Cannot define tool from function '{function.__name__}': {error.detail}"
    if output_schema is None and name is None:
        with pytest.raises(dw.ToolDefinitionError):
            tool(function)


@pytest.mark.parametrize("function", [no_return, no_return_async, returns_dict])
def test_t_34_t_38_output_schema_makes_up_for_the_annotation(function: Callable[..., Any]) -> None:
    assert tool(output_schema=Number)(function).output_schema is Number


class Nameless:
    def __call__(self, n: int) -> Number:
        return Number(n=n)


@pytest.mark.parametrize("nameless", [functools.partial(inc), Nameless()])
def test_what_has_no_name_of_its_own_needs_one(nameless: Any) -> None:
    with pytest.raises(dw.ToolDefinitionError, match=r"it has no name of its own; pass name="):
        tool(nameless)


def test_a_decorated_tool_may_have_a_safety_contract() -> None:
    contract = dw.ToolSafetyContract(side_effects=dw.SideEffectLevel.READ, cacheable=False)

    @tool(safety=contract)
    def look(n: int) -> Number:
        return Number(n=n)

    assert (look.safety, look.safety_declared, look.cacheable) == (contract, True, False)
    with pytest.raises(ValueError, match="cacheable"):
        tool(safety=dw.ToolSafetyContract(), cacheable=False)(look.function)
