"""What is raised that is no error of the library: pydantic's for values, Python's own for wrong arguments."""

import asyncio
import operator
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import doubleweave as dw
from doubleweave import DAGFlowStep, FlowGovernance, FlowStep, RetryPolicy, Tool, ToolSafetyContract
from doubleweave.attest import UnsupportedAnnotation, generate_value
from doubleweave.models.flow_schema import _merge
from doubleweave.testing import assert_result_matches, record_then_replay
from lanes_under_test import number_tool
from parity_scenarios import count_up, inc, linear, step

STEP = {"step_id": "s", "tool_name": "t"}
BRANCHES = [{"target_step_id": "x", "predicate": "a"}]

REJECTED: dict[str, tuple[type[BaseModel], dict[str, Any], str]] = {
    "FlowStep neither tool_name nor flow_name": (FlowStep, {}, "requires exactly one of 'tool_name' or 'flow_name'"),
    "FlowStep both tool_name and flow_name": (
        FlowStep,
        {"tool_name": "t", "flow_name": "f"},
        "requires exactly one of 'tool_name' or 'flow_name'",
    ),
    "FlowStep decision_candidates together with flow_name": (
        FlowStep,
        {"flow_name": "f", "decision_candidates": ["f"]},
        "only valid for tool steps",
    ),
    "FlowStep decision_candidates empty": (FlowStep, {"tool_name": "t", "decision_candidates": []}, "at least one"),
    "FlowStep decision_candidates with duplicates": (
        FlowStep,
        {"tool_name": "t", "decision_candidates": ["t", "u", "t"]},
        "duplicates",
    ),
    "FlowStep tool_name not among decision_candidates": (
        FlowStep,
        {"tool_name": "t", "decision_candidates": ["u"]},
        "must be a member of decision_candidates",
    ),
    "FlowStep bad on_error": (FlowStep, {"tool_name": "t", "on_error": "retry"}, "on_error must be"),
    "RetryPolicy retryable_errors empty": (RetryPolicy, {"retryable_errors": ()}, "at least one"),
    "RetryPolicy entry without a colon": (
        RetryPolicy,
        {"retryable_errors": ("builtins:OSError", "OSError")},
        "'module:qualname' form",
    ),
    "RetryPolicy negative max_retries": (RetryPolicy, {"max_retries": -1}, "greater than or equal to 0"),
    "RetryPolicy negative backoff_seconds": (RetryPolicy, {"backoff_seconds": -0.1}, "greater than or equal to 0"),
    "RetryPolicy backoff_multiplier below 1": (RetryPolicy, {"backoff_multiplier": 0.9}, "greater than or equal to 1"),
    "DAGFlowStep tool with capability_id": (DAGFlowStep, {**STEP, "capability_id": "c"}, "capability_id must be None"),
    "DAGFlowStep default_next without branches": (DAGFlowStep, {**STEP, "default_next": "x"}, "default_next"),
    "DAGFlowStep capability with branches": (
        DAGFlowStep,
        {**STEP, "step_type": "capability", "branches": BRANCHES},
        "capability",
    ),
    "ToolSafetyContract read_only contradicts side_effects": (
        ToolSafetyContract,
        {"side_effects": "write", "read_only": True},
        "conflicts",
    ),
    "ToolSafetyContract requires_review contradicts requires_approval": (
        ToolSafetyContract,
        {"requires_review": True, "requires_approval": False},
        "conflicts",
    ),
    "FlowGovernance negative estimated_model_calls_removed": (
        FlowGovernance,
        {"estimated_model_calls_removed": -1},
        "greater than or equal to 0",
    ),
    "FlowGovernance negative estimated_token_savings": (
        FlowGovernance,
        {"estimated_token_savings": -1},
        "greater than or equal to 0",
    ),
}


@pytest.mark.parametrize(("model", "fields", "fragment"), REJECTED.values(), ids=REJECTED)
def test_a_model_that_is_made_in_code_refuses_a_wrong_value_with_an_error_of_pydantic(
    model: type[BaseModel], fields: dict[str, Any], fragment: str
) -> None:
    for make in (model, lambda **values: model.model_validate(values)):
        with pytest.raises(ValidationError, match=fragment) as caught:
            make(**fields)
        assert isinstance(caught.value, ValueError)
        assert not isinstance(caught.value, dw.DoubleweaveError)
        assert caught.value.title == model.__name__


# --- errors of Python -------------------------------------------------------------------------------------------------


def tool(**options: Any) -> Tool:
    return number_tool("t", inc, **options)


def executor(**options: Any) -> dw.FlowExecutor:
    registry = dw.FlowRegistry()
    registry.register_flow(linear(step("t"), step("t")))
    made = dw.FlowExecutor(registry, **options)
    made.register_tool(tool())
    return made


def replay(first_step: int) -> dw.ReplayResult:
    made = executor()
    return made.replay_flow(made.execute_flow("main", {"n": 1}), resume_from_step=first_step)


def clashing_definitions() -> None:
    definitions: dict[str, Any] = {}
    for kind in ("object", "string"):
        _merge(definitions, {"Step": {"type": kind}})


def attest(n: int = 1, repeats: int = 2) -> dw.AttestationReport:
    made = executor()
    return dw.attest_flow(flow=made.registry.get_flow("main"), executor=made, n=n, repeats=repeats, seed=0)


def replayed(path: Path, content: str | None) -> None:
    if content is not None:
        path.write_text(content)
    record_then_replay(path)(lambda: tool().run({"n": 1}))()


Raising = Callable[[Path], object]

# In each place: what is done there, in a folder that exists, the class of the error, and part of its text.
PLACES: dict[str, tuple[Raising, type[Exception], str]] = {
    "ValueError Tool conflicting cacheable": (
        lambda folder: tool(cacheable=True, safety=ToolSafetyContract(cacheable=False)),
        ValueError,
        "conflicting cacheable",
    ),
    "ValueError FlowGovernance.transition_to": (
        lambda folder: FlowGovernance().transition_to(dw.FlowLifecycle.DRAFT),
        ValueError,
        "cannot transition",
    ),
    "ValueError FlowRegistry.watch": (
        lambda folder: dw.FlowRegistry().watch(folder, poll_interval_seconds=0),
        ValueError,
        "poll_interval_seconds must be above 0",
    ),
    "ValueError FileTraceStore": (
        lambda folder: dw.FileTraceStore(folder, max_traces=0),
        ValueError,
        "max_traces must be positive",
    ),
    "ValueError flow_schema_json": (
        lambda folder: clashing_definitions(),
        ValueError,
        "two models have the name 'Step'",
    ),
    "FileNotFoundError load_from_directory": (
        lambda folder: dw.FlowRegistry().load_from_directory(folder / "gone"),
        FileNotFoundError,
        "gone",
    ),
    "FileNotFoundError reload_from_directory": (
        lambda folder: dw.FlowRegistry().reload_from_directory(folder / "gone"),
        FileNotFoundError,
        "gone",
    ),
    "FileNotFoundError watch": (lambda folder: dw.FlowRegistry().watch(folder / "gone"), FileNotFoundError, "gone"),
    "NotADirectoryError load_from_directory": (
        lambda folder: dw.FlowRegistry().load_from_directory(folder / "file"),
        NotADirectoryError,
        "file",
    ),
    "NotADirectoryError reload_from_directory": (
        lambda folder: dw.FlowRegistry().reload_from_directory(folder / "file"),
        NotADirectoryError,
        "file",
    ),
    "NotADirectoryError watch": (lambda folder: dw.FlowRegistry().watch(folder / "file"), NotADirectoryError, "file"),
    "FileNotFoundError (names the env var) replay fixture": (
        lambda folder: replayed(folder / "gone.json", None),
        FileNotFoundError,
        "DOUBLEWEAVE_RECORD=1",
    ),
    "ValueError replay fixture malformed": (
        lambda folder: replayed(folder / "fixture.json", "{}"),
        ValueError,
        "unsupported version None, expected 1",
    ),
    "AssertionError assert_result_matches": (
        lambda folder: assert_result_matches({"n": 1}, {"n": 2}),
        AssertionError,
        "the results differ",
    ),
    "ValueError attest_flow repeats": (lambda folder: attest(repeats=1), ValueError, "repeats must be >= 2"),
    "ValueError attest_flow n": (lambda folder: attest(n=0), ValueError, "n must be >= 1"),
    "ValueError executor max_step_concurrency": (
        lambda folder: executor(max_step_concurrency=0),
        ValueError,
        "max_step_concurrency",
    ),
    "TypeError executor decision_callback": (lambda folder: executor(decision_callback=5), TypeError, "decision"),
    "TypeError executor approval_callback": (lambda folder: executor(approval_callback=5), TypeError, "approv"),
    "TypeError executor guardrail_callback": (lambda folder: executor(guardrail_callback=5), TypeError, "guardrail"),
    "ValueError executor dry_run_unsupported": (
        lambda folder: executor().execute_flow("main", {"n": 1}, dry_run_unsupported="ignore"),  # type: ignore[arg-type]  # refused
        ValueError,
        "dry_run_unsupported must be",
    ),
    "ValueError replay beyond the last step": (lambda folder: replay(3), ValueError, "resume_from_step is 3"),
    "ValueError checkpointer ids": (
        lambda folder: dw.FileCheckpointer(folder).load("../x"),
        ValueError,
        "'../x'",
    ),
    "ValueError cost provider without model": (
        lambda folder: dw.compute_cost_report(steps_executed=1, actual_execution_ms=1.0, provider="openai"),
        ValueError,
        "together or not at all",
    ),
    "ValueError price output_fraction": (
        lambda folder: dw.lookup_price("openai", "gpt-4o").blended_cost_per_token_usd(output_fraction=1.5),
        ValueError,
        "output_fraction",
    ),
    "TypeError price table assignment": (
        lambda folder: operator.setitem(dw.PROVIDER_PRICES, ("a", "b"), None),  # type: ignore[call-overload]  # refused
        TypeError,
        "does not support item assignment",
    ),
    "KeyError trace recorder unknown id": (lambda folder: dw.TraceRecorder().end_trace("x"), KeyError, "x"),
}


@pytest.mark.parametrize(("call", "kind", "fragment"), PLACES.values(), ids=PLACES)
def test_a_plain_error_of_python_is_raised_here(
    call: Raising, kind: type[Exception], fragment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOUBLEWEAVE_RECORD", raising=False)
    (tmp_path / "file").touch()
    with pytest.raises(kind) as caught:
        call(tmp_path)
    assert type(caught.value) is kind
    assert fragment in str(caught.value)


async def drained(made: Tool, raw: dict[str, Any]) -> list[Any]:
    assert isinstance(made, dw.StreamingTool)
    return [chunk async for chunk in made.run_streaming(raw)]


WAYS: dict[str, Callable[[Tool, dict[str, Any]], Any]] = {
    "pydantic.ValidationError Tool.run": lambda made, raw: made.run(raw),
    "pydantic.ValidationError run_async": lambda made, raw: asyncio.run(made.run_async(raw)),
    "pydantic.ValidationError run_dry": lambda made, raw: made.run_dry(raw),
    "pydantic.ValidationError run_streaming": lambda made, raw: asyncio.run(drained(made, raw)),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_inputs_and_outputs_that_do_not_match_are_an_error_of_pydantic_when_a_tool_is_called_directly(
    way: Callable[[Tool, dict[str, Any]], Any],
) -> None:
    def wrong(v: Any) -> dict[str, str]:
        return {"n": "many"}

    async def wrong_stream(v: Any) -> Any:
        yield dw.ToolChunk(data={"n": "many"}, is_final=True)

    def streaming(stream_fn: Any) -> Tool:
        plain = tool()
        return dw.StreamingTool(
            name="t",
            description="",
            input_schema=plain.input_schema,
            output_schema=plain.output_schema,
            stream_fn=stream_fn,
        )

    is_streaming = way is WAYS["pydantic.ValidationError run_streaming"]
    good, bad = (
        (streaming(count_up), streaming(wrong_stream))
        if is_streaming
        else (tool(dry_run_fn=inc), number_tool("t", wrong, dry_run_fn=wrong))
    )
    for made, raw in ((good, {"n": "one"}), (bad, {"n": 1})):
        with pytest.raises(ValidationError) as caught:
            way(made, raw)
        assert caught.value.title == "Number"
        assert not isinstance(caught.value, dw.DoubleweaveError)


def test_unsupported_annotation_is_raised_by_generate_value_where_there_is_no_rule() -> None:
    """UnsupportedAnnotation derives from Exception alone."""
    assert UnsupportedAnnotation.__bases__ == (Exception,)
    with pytest.raises(UnsupportedAnnotation, match="there is no generator for") as caught:
        generate_value(set[int], random.Random(0))
    assert caught.value.annotation_repr == "set[int]"


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [pytest.param("integrations.opentelemetry", "opentelemetry", "otel", id="ImportError naming the extra")],
)
def test_an_adapter_without_its_package_raises(module: str, package: str, extra: str) -> None:
    code = f"import sys\nsys.modules[{package!r}] = None\nimport doubleweave.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: ")
    assert f"doubleweave[{extra}]" in done.stderr.splitlines()[-1]
