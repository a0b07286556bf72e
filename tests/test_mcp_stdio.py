"""Flows offered over stdio, to the SDK's client."""

import asyncio
import re

import mcp
import pytest
from mcp import types

from mcp_flows import SECRET
from mcp_under_test import PAIRS, Progress, on_stdio, text_of

ORDER = {"item": "desk", "country": "DK"}
BILLED = {"item": "desk", "country": "DK", "net": 250.0, "percent": 25, "total": 312.5}


@PAIRS
async def test_a_flow_is_a_tool_with_schemas_hints_progress_and_structured_output(mode: str, lane: str) -> None:
    progress = Progress()
    async with on_stdio(mode, lane=lane) as spoken:
        tools = {tool.name: tool for tool in (await spoken.client.list_tools()).tools}
        result = await spoken.client.call_tool("order", ORDER, progress_callback=progress)
    assert sorted(tools) == ["after_interruption", "die", "fail", "hang", "nan", "order", "pid", "swell"]
    order = tools["order"]
    assert order.description == "What an order costs"
    assert order.input_schema["required"] == ["item", "country"]
    assert {name: each["type"] for name, each in order.input_schema["properties"].items()} == {
        "item": "string",
        "country": "string",
    }
    assert order.output_schema is not None
    assert order.output_schema["required"] == ["total"]
    assert order.annotations == types.ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True)
    assert not result.is_error
    assert result.structured_content == BILLED
    assert progress.steps == [(1.0, 3.0, "price"), (2.0, 3.0, "rate"), (3.0, 3.0, "bill")]


async def test_what_is_not_offered_is_unknown_whether_it_exists_or_not() -> None:
    async with on_stdio() as spoken:
        for name in ("write", "disabled", "nothing"):
            with pytest.raises(mcp.MCPError, match=f"^Unknown tool: {name}$") as caught:
                await spoken.client.call_tool(name, {})
            assert caught.value.code == types.INVALID_PARAMS


async def test_what_tools_print_goes_to_stderr_and_not_into_the_protocol() -> None:
    strange: list[object] = []

    async def note(message: object) -> None:
        strange.append(message)

    async with on_stdio(message_handler=note) as spoken:
        result = await spoken.client.call_tool("order", ORDER)
        assert spoken.logged() == "printed by a tool\n"
    assert result.structured_content == BILLED
    assert [each for each in strange if isinstance(each, Exception)] == []


async def test_an_error_has_code_trace_and_message_and_is_logged() -> None:
    async with on_stdio() as spoken:
        failed = await spoken.client.call_tool("fail", {})
        misfit = await spoken.client.call_tool("order", {"item": 7, "country": "DK"})
        not_json = await spoken.client.call_tool("nan", {})
        logged = spoken.logged()
    assert [each.is_error for each in (failed, misfit, not_json)] == [True] * 3
    assert re.fullmatch(
        rf"CW-E006 \(trace [0-9a-f-]+\): Execution error in tool 'fail' at step 0: {SECRET}", text_of(failed)
    )
    assert text_of(misfit).startswith("CW-E004 (trace ")
    assert "item" in text_of(misfit)
    assert re.search(r"^CW-E006 .*its final output is not JSON: Out of range float values", text_of(not_json))
    trace_id = text_of(failed).split("(trace ")[1].split(")")[0]
    assert f"Flow 'fail' failed | trace={trace_id} | code=CW-E006" in logged


async def test_arguments_and_outputs_may_be_so_long_and_no_longer() -> None:
    async with on_stdio(limits={"input_bytes": 40, "output_bytes": 60}) as spoken:
        # {"size": 18, "text": "üü..."} takes 24 bytes and two for each letter.
        fits = await spoken.client.call_tool("swell", {"size": 18})
        too_long = await spoken.client.call_tool("swell", {"size": 19})
        in_full = await spoken.client.call_tool("swell", {"size": 1, "pad": "x" * 21})
        too_much = await spoken.client.call_tool("swell", {"size": 1, "pad": "x" * 22})
    assert not fits.is_error
    assert text_of(too_long).split("): ")[1] == "Tool 'swell' output size 62 exceeds max 60."
    assert not in_full.is_error
    assert text_of(too_much) == "The arguments take 41 bytes as JSON; at most 40 are accepted."


async def test_a_call_may_take_so_long_and_its_run_is_cancelled() -> None:
    async with on_stdio(limits={"call_seconds": 0.2}) as spoken:
        result = await spoken.client.call_tool("hang", {})
        seen = await spoken.client.call_tool("after_interruption", {})
    assert re.fullmatch(r"CW-E012 \(trace [0-9a-f-]+\): Flow 'hang' did not end within 0.2 s.", text_of(result))
    assert seen.structured_content == {"seen": "a waiting tool was interrupted"}


@PAIRS
async def test_a_cancelled_request_cancels_the_run_and_frees_its_place(mode: str, lane: str) -> None:
    async with on_stdio(mode, lane=lane, limits={"calls_at_once": 1}) as spoken:
        progress = Progress()
        call = asyncio.create_task(spoken.client.call_tool("hang", {}, progress_callback=progress))
        await progress.begun.wait()
        refused = await spoken.client.call_tool("pid", {})
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        seen = await spoken.client.call_tool("after_interruption", {})
        while seen.is_error:  # its place is free once the run has wound down
            seen = await spoken.client.call_tool("after_interruption", {})
    assert text_of(refused) == "1 calls are running, which is the most at a time. Try again later."
    assert seen.structured_content == {"seen": "a waiting tool was interrupted"}


async def test_flows_that_write_are_offered_where_that_is_allowed() -> None:
    async with on_stdio(max_side_effect_level="write", flows=["write", "pid"]) as spoken:
        tools = {tool.name: tool for tool in (await spoken.client.list_tools()).tools}
        result = await spoken.client.call_tool("write", {})
    assert sorted(tools) == ["pid", "write"]
    assert tools["write"].annotations == types.ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=False
    )
    assert not result.is_error
