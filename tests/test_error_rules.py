"""The rules that hold for every error of the library, wherever its class is defined."""

import inspect
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import DoubleweaveError, Tool, errors
from lanes_under_test import Case, assert_same_on_both_lanes, number_tool
from parity_scenarios import linear, step
from test_errors import ROWS, Row
from test_tool_calls import Call, both

OWN_MODULES = {
    "FlowBuilderError": "doubleweave.models.builder",
    "FuzzConfigError": "doubleweave.fuzz.properties",
    "AttestationInputError": "doubleweave.attest.values",
    "FixtureStaleError": "doubleweave.testing.replay",
}
CODES = {row.name: row.code for row in ROWS} | {
    "FlowBuilderError": "CW-E037",
    "FuzzConfigError": "CW-E038",
    "AttestationInputError": "CW-E039",
    "FixtureStaleError": "CW-E040",
}
RESERVED = {
    "CW-E024": "MCPError",
    "CW-E025": "MCPSchemaConversionError",
    "CW-E026": "MCPToolInvocationError",
    "CW-E027": "MCPMetadataError",
    "CW-E028": "MCPSchemaDriftError",
    "CW-E034": "OfflineLLMError",
    "CW-E035": "AgentTraceImportError",
    "CW-E042": "PromptBudgetExceededError",
    "CW-E043": "LLMProviderError",
    "CW-E044": "LLMBudgetExceededError",
    "CW-E045": "FlowAuthenticationError",
    "CW-E046": "RateLimitExceededError",
    "CW-E047": "FlowAuthorizationError",
    "CW-E048": "OpenCodeAdapterError",
    "CW-E053": "ClaudeCodeAdapterError",
    "CW-E054": "VSCodeAdapterError",
}
# Classes of reserved codes that there are after all, with the meaning that was reserved.
USED = {"CW-E024": "MCPError", "CW-E025": "MCPSchemaConversionError", "CW-E026": "MCPToolInvocationError"}


def exported() -> dict[str, type[BaseException]]:
    """Return the exception classes that users import from the package root."""
    names = {name: getattr(dw, name) for name in dw.__all__}
    return {name: item for name, item in names.items() if inspect.isclass(item) and issubclass(item, BaseException)}


def subclasses(cls: type[DoubleweaveError]) -> set[type[DoubleweaveError]]:
    return {cls}.union(*(subclasses(each) for each in cls.__subclasses__()))


def of_the_library() -> set[type[DoubleweaveError]]:
    exported()  # imports those that stand where they are raised
    return {cls for cls in subclasses(DoubleweaveError) if cls.__module__.startswith("doubleweave.")}


# --- classes and codes ------------------------------------------------------------------------------------------------


def test_e_1_every_public_error_derives_from_the_root_and_the_root_from_exception_alone() -> None:
    assert [name for name, cls in exported().items() if not issubclass(cls, DoubleweaveError)] == []
    assert DoubleweaveError.__bases__ == (Exception,)


def test_e_2_codes_are_well_formed_and_each_class_has_its_own() -> None:
    codes = [vars(cls)["code"] for cls in of_the_library()]
    assert [code for code in codes if not re.fullmatch(r"CW-E\d{3}", code)] == []
    assert len(set(codes)) == len(codes)
    assert [cls for cls in of_the_library() if cls.code == "CW-E000"] == [DoubleweaveError]


def test_e_3_a_released_code_belongs_to_its_class_for_ever() -> None:
    """A new error adds a line to what is compared here; no line changes or goes."""
    assert {cls.__name__: cls.code for cls in of_the_library()} == CODES


def test_e_8_all_errors_come_from_the_package_root_and_all_but_some_from_the_module_of_errors() -> None:
    assert exported().keys() == CODES.keys()
    for name, cls in exported().items():
        assert cls.__module__ == OWN_MODULES.get(name, "doubleweave.errors"), name
        assert getattr(errors, name, None) is (None if name in OWN_MODULES else cls)


@pytest.mark.parametrize(("code", "name"), RESERVED.items(), ids=RESERVED)
def test_e_14_a_reserved_code_has_no_other_meaning(code: str, name: str) -> None:
    """The ids: CW-E024 and so on, the codes of the reference's adapters and services."""
    assert {cls.__name__ for cls in of_the_library() if cls.code == code} <= {name}


def test_e_14_new_codes_start_at_55() -> None:
    known_to_the_reference = {f"CW-E{number:03}" for number in range(55)} - (RESERVED.keys() - USED.keys())
    assert sorted(set(CODES.values()) - known_to_the_reference) == ["CW-E055", "CW-E056", "CW-E057", "CW-E058"]
    assert CODES["CheckpointCorruptError"] == "CW-E055"


def test_e_15_the_classes_of_reserved_codes_need_not_exist() -> None:
    registry = dw.error_code_registry()
    assert {code: name for code, name in RESERVED.items() if name in registry or hasattr(dw, name)} == USED


# --- those that are defined where they are raised ---------------------------------------------------------------------

STALE = {"tool_name": "t", "fixture_path": Path("a.json"), "attempted_input": {"n": 1}, "detail": "none is left"}
OWN_ROWS = [
    Row("CW-E037", "FlowBuilderError", ("bad.",), {}, {"detail": "bad."}, "FlowBuilder error: bad."),
    Row("CW-E038", "FuzzConfigError", ("runs must be >= 1",), {}, {"detail": "runs must be >= 1"}, "runs must be >= 1"),
    Row(
        "CW-E039",
        "AttestationInputError",
        ("x", "set[int]"),
        {},
        {"field_name": "x", "annotation_repr": "set[int]"},
        "Cannot generate an input for the field 'x' (set[int]); "
        "give inputs with seed_inputs=, on the command line with --seed-input.",
    ),
    Row(
        "CW-E040",
        "FixtureStaleError",
        (),
        STALE,
        STALE,
        "Fixture is stale for tool 't': none is left; run again with DOUBLEWEAVE_RECORD=1 to record a.json anew.",
    ),
]


@pytest.mark.parametrize("row", OWN_ROWS, ids=lambda row: f"{row.code}-{row.name}")
def test_e_4_such_an_error_has_its_code_its_attributes_and_its_message(row: Row) -> None:
    error: DoubleweaveError = getattr(dw, row.name)(*row.args, **row.kwargs)
    assert (error.code, type(error).code, type(error).__bases__) == (row.code, row.code, (DoubleweaveError,))
    assert (vars(error), str(error)) == (row.attributes, row.message)
    assert "CW-E" not in str(error)


# --- messages -------------------------------------------------------------------------------------------------------

NO_PERIOD_ADDED = {
    *("DAGDefinitionError", "DecisionCallbackError", "DoubleweaveError", "FlowBuilderError", "FlowCompositionError"),
    *("FlowExecutionError", "FuzzConfigError", "JsonSchemaMismatchError", "PredicateSyntaxError"),
    *("SchemaValidationError", "ToolDefinitionError"),
}
TRIMS = {"ApprovalDeniedError": ("t", 3), "GuardrailViolationError": ("t", 3, "input")}


@pytest.mark.parametrize("row", [*ROWS, *OWN_ROWS], ids=lambda row: f"{row.code}-{row.name}")
def test_e_10_a_message_ends_with_one_period_unless_the_catalogue_says_otherwise(row: Row) -> None:
    message = str(getattr(dw, row.name)(*row.args, **row.kwargs))
    detail = row.attributes.get("detail")
    if row.name not in NO_PERIOD_ADDED:
        assert re.search(r"[^.]\.$", message)
    elif detail is not None:
        assert message.endswith(detail)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("FlowBuilderError", ()),
        ("SchemaValidationError", ("t", 0)),
        ("FlowExecutionError", ("t", 0)),
        ("ToolDefinitionError", ("t",)),
        ("ContribError", ("t",)),
        ("KernelInvocationError", ("c", 0)),
        ("FlowSerializationError", ()),
    ],
)
@pytest.mark.parametrize("detail", ["bad", "bad.", "bad..."])
def test_e_10_a_detail_is_kept_verbatim_but_for_the_two_errors_that_trim_it(
    name: str, values: tuple[Any, ...], detail: str
) -> None:
    message = str(getattr(dw, name)(*values, detail))
    assert message.endswith(detail if name in NO_PERIOD_ADDED else f"{detail}.")


@pytest.mark.parametrize(("name", "values"), TRIMS.items(), ids=TRIMS)
@pytest.mark.parametrize("detail", ["bad", "bad.", "bad..."])
def test_e_10_two_errors_trim_the_periods_of_their_detail(name: str, values: tuple[Any, ...], detail: str) -> None:
    error = getattr(dw, name)(*values, detail)
    assert str(error).endswith(": bad.")
    assert error.detail == detail


# --- notes of the catalogue -------------------------------------------------------------------------------------------


def test_e_11_whoever_catches_serialization_errors_alone_sees_a_refused_ref_escape() -> None:
    assert not issubclass(dw.SchemaRefPolicyError, dw.FlowSerializationError)
    refusing = dw.schema_ref_policy(dw.SchemaRefAllowlist([]))
    with refusing, pytest.raises(dw.SchemaRefPolicyError), suppress(dw.FlowSerializationError):
        dw.resolve_class_ref("builtins:int")


OWN_ERRORS = [
    dw.ToolDefinitionError("f", "no signature"),
    dw.ToolTimeoutError("inner", 2.5),
    dw.ToolOutputSizeError("inner", 11, 10),
]
own_errors = pytest.mark.parametrize("error", OWN_ERRORS, ids=lambda error: type(error).__name__)


def raising(error: Exception, **options: Any) -> Tool:
    def fn(v: Any) -> dict[str, int]:
        raise error

    return number_tool("t", fn, **options)


@both
@own_errors
@pytest.mark.parametrize("timeout", [None, 10.0])
def test_e_12_an_error_of_a_tool_keeps_its_type_when_the_tool_is_called_directly(
    call: Call, error: Exception, timeout: float | None
) -> None:
    with pytest.raises(type(error)) as caught:
        call(raising(error, timeout_seconds=timeout), {"n": 1})
    assert caught.value is error
    error.__traceback__ = None


@pytest.mark.parametrize(
    ("error_type", "code"),
    [
        ("ToolTimeoutError", "CW-E008"),
        ("DoubleweaveError", "CW-E000"),
        ("ValueError", None),
        ("CancelledError", None),
        ("", None),
        (None, None),
    ],
)
def test_e_13_the_code_of_a_record_follows_from_the_name_of_its_error(error_type: str | None, code: str | None) -> None:
    now = "2026-01-02T00:00:00Z"
    values = {"step_index": 0, "tool_name": "t", "inputs": {}, "started_at": now, "ended_at": now, "duration_ms": 1.0}
    record = dw.StepRecord.model_validate({**values, "success": False, "error_type": error_type})
    assert record.error_code == code


@pytest.mark.parametrize(
    ("tool", "error_type", "code"),
    [
        (lambda: raising(ValueError("no")), "FlowExecutionError", "CW-E006"),
        (lambda: raising(OWN_ERRORS[1]), "ToolTimeoutError", "CW-E008"),
        (lambda: number_tool("t", lambda v: {"n": "many"}), "SchemaValidationError", "CW-E004"),
        (lambda: number_tool("other", lambda v: {"n": 1}), "ToolNotFoundError", "CW-E001"),
    ],
)
def test_e_13_the_codes_in_the_log_of_a_run_are_those_of_its_errors(tool: Any, error_type: str, code: str) -> None:
    seen = assert_same_on_both_lanes(Case([linear(step("t"))], lambda: [tool()]))
    assert seen.result is not None
    (record,) = seen.result.execution_log
    assert (record.error_type, record.error_code) == (error_type, code)
    assert dw.error_code_for(error_type) == code
