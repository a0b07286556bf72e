"""Redaction policies and the log lines of a step."""

import copy
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from doubleweave.errors import ToolTimeoutError
from doubleweave.models.callbacks import ApprovalDecision, ApprovalRecord
from doubleweave.models.log_lines import get_logger, log_step_end, log_step_error, log_step_start
from doubleweave.models.product import PRODUCT
from doubleweave.models.records import ExecutionResult, StepRecord
from doubleweave.models.redaction import DEFAULT_REDACT_KEYS, RedactionPolicy

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MASK = "***REDACTED***"
DEFAULT_KEYS = {"password", "token", "api_key", "apikey", "secret", "authorization"}
RECOMMENDED_KEYS = DEFAULT_KEYS | {
    "access_token",
    "refresh_token",
    "client_secret",
    "private_key",
    "credential",
    "credentials",
    "session_token",
    "cookie",
    "set-cookie",
}
STRICT_KEYS = RECOMMENDED_KEYS | {"email", "phone", "ssn", "account", "account_number", "card", "card_number", "pin"}


def test_the_default_policy() -> None:
    assert DEFAULT_REDACT_KEYS == DEFAULT_KEYS
    assert isinstance(DEFAULT_REDACT_KEYS, frozenset)
    assert RedactionPolicy().model_dump() == {
        "redact_keys": frozenset(DEFAULT_KEYS),
        "redact_pattern": None,
        "max_value_length": None,
        "redact_replacement": MASK,
    }
    assert list(RedactionPolicy.model_fields) == [
        "redact_keys",
        "redact_pattern",
        "max_value_length",
        "redact_replacement",
    ]


def test_a_policy_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RedactionPolicy().max_value_length = 1  # type: ignore[misc]


@pytest.mark.parametrize("policy", [RedactionPolicy(), RedactionPolicy.recommended(), RedactionPolicy.strict()])
def test_a_policy_round_trips_through_json(policy: RedactionPolicy) -> None:
    assert RedactionPolicy.model_validate_json(policy.model_dump_json()) == policy


# --- redact ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", sorted(DEFAULT_KEYS))
@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title])
def test_o_1_values_under_default_keys_are_masked_in_any_case(key: str, spell: Any) -> None:
    assert RedactionPolicy().redact({spell(key): "value", "other": "value"}) == {spell(key): MASK, "other": "value"}


def test_o_1_keys_of_the_policy_match_in_any_case_too() -> None:
    assert RedactionPolicy(redact_keys=frozenset({"PassPhrase"})).redact({"passphrase": 1}) == {"passphrase": MASK}


def test_o_1_only_whole_keys_match() -> None:
    data = {"my_token": "a", "tokens": "b", "pass word": "c"}
    assert RedactionPolicy().redact(data) == data


@pytest.mark.parametrize("value", ["text", 1, None, {"a": 1}, ["a"], ("a",)])
def test_o_1_the_value_under_a_key_is_replaced_whole(value: Any) -> None:
    assert RedactionPolicy().redact({"secret": value}) == {"secret": MASK}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"a": {"b": {"token": 1}}}, {"a": {"b": {"token": MASK}}}),
        ({"a": [{"token": 1}, "x"]}, {"a": [{"token": MASK}, "x"]}),
        ({"a": ({"token": 1}, "x")}, {"a": ({"token": MASK}, "x")}),
        ({"a": [([{"b": ({"token": 1},)}],)]}, {"a": [([{"b": ({"token": MASK},)}],)]}),
        ({}, {}),
    ],
)
def test_o_1_keys_are_found_at_any_depth_and_containers_keep_their_kind(data: Any, expected: Any) -> None:
    assert RedactionPolicy().redact(data) == expected


def test_keys_that_are_not_strings_are_left_alone() -> None:
    data: dict[Any, Any] = {1: "a", None: {"token": "b"}}
    expected: dict[Any, Any] = {1: "a", None: {"token": MASK}}
    assert RedactionPolicy().redact(data) == expected


def test_o_1_values_of_other_types_are_the_same_objects() -> None:
    value = object()
    assert RedactionPolicy.strict().redact({"a": [value, 1, None, 2.5, True]})["a"] == [value, 1, None, 2.5, True]


def test_o_1_other_strings_get_the_pattern_then_the_length() -> None:
    policy = RedactionPolicy(redact_pattern=re.compile(r"\d+"), max_value_length=6, redact_replacement="#")
    assert policy.redact({"a": "12345678", "b": ["x1y2z3"], "c": ("abcdefgh",)}) == {
        "a": "#",
        "b": ["x#y#z#"],
        "c": ("abcdef…(truncated)",),
    }


def test_the_replacement_is_not_cut() -> None:
    assert RedactionPolicy(max_value_length=3).redact({"token": "abcdef"}) == {"token": MASK}


def test_o_2_the_replacement_is_taken_literally() -> None:
    policy = RedactionPolicy(redact_pattern=re.compile("(x)"), redact_replacement=r"\1\g<0>\n")
    assert policy.redact_text("axb") == r"a\1\g<0>\nb"


def test_o_1_the_data_given_is_not_changed_and_not_shared() -> None:
    data = {"a": [{"token": 1}], "b": ({"c": "12"},), "d": {"e": []}}
    before = copy.deepcopy(data)
    redacted = RedactionPolicy(redact_pattern=re.compile(r"\d")).redact(data)
    redacted["d"]["e"].append(1)
    redacted["a"].append(1)
    assert data == before


def test_a_copy_of_a_policy_with_other_keys_uses_those() -> None:
    policy = RedactionPolicy()
    policy.redact({})
    other = policy.model_copy(update={"redact_keys": frozenset({"x"})})
    assert other.redact({"x": 1, "token": 2}) == {"x": MASK, "token": 2}


# --- redact_text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("abc", "abc"), ("abcd", "abcd"), ("abcde", "abcd…(truncated)"), ("", ""), ("token", "toke…(truncated)")],
)
def test_o_2_text_is_cut_after_the_given_number_of_characters(text: str, expected: str) -> None:
    assert RedactionPolicy(max_value_length=4).redact_text(text) == expected


def test_o_2_the_pattern_comes_before_the_length_and_keys_do_not_count() -> None:
    policy = RedactionPolicy(redact_pattern=re.compile("[0-9]+"), max_value_length=8, redact_replacement="#")
    assert policy.redact_text("1234567890 token=abc") == "# token=…(truncated)"


def test_o_2_text_is_unchanged_without_pattern_and_length() -> None:
    assert RedactionPolicy().redact_text("password=hunter2") == "password=hunter2"


# --- recommended and strict ------------------------------------------------------------------------------------------


def test_o_4_the_recommended_policy() -> None:
    policy = RedactionPolicy.recommended()
    assert policy.redact_keys == RECOMMENDED_KEYS
    assert policy.max_value_length == 4096
    assert policy.redact_replacement == MASK


def test_o_5_the_strict_policy() -> None:
    policy = RedactionPolicy.strict()
    assert policy.redact_keys == STRICT_KEYS
    assert policy.max_value_length == 256
    assert policy.redact_pattern == RedactionPolicy.recommended().redact_pattern


SECRETS = [
    "Bearer abc.DEF-123_~+/=",
    "bearer   x",
    "sk-" + "a1" * 8,
    "rk-" + "a1" * 8,
    "pk-" + "A_-1" * 4,
    "SK-" + "a1" * 8,
    *(f"gh{kind}_" + "a1" * 10 for kind in "pousr"),
    "AKIA" + "A1" * 8,
    "akia" + "a1" * 8,
    *(f"xox{kind}-" + "1-a2b" * 2 for kind in "abpsr"),
]


@pytest.mark.parametrize("secret", SECRETS)
def test_o_4_the_recommended_pattern_masks_credentials_inside_text(secret: str) -> None:
    assert RedactionPolicy.recommended().redact_text(f"say {secret}, please") == f"say {MASK}, please"


@pytest.mark.parametrize(
    "text",
    [
        "sk-" + "a" * 15,
        "xk-" + "a" * 30,
        "task-" + "a" * 30,
        "ghx_" + "a" * 30,
        "ghp_" + "a" * 19,
        "AKIA" + "A" * 15,
        "xoxz-" + "a" * 20,
        "xoxb-" + "a" * 9,
        "the bearer, alone",
    ],
)
def test_o_4_the_recommended_pattern_leaves_other_text(text: str) -> None:
    assert RedactionPolicy.recommended().redact_text(text) == text


def test_o_4_the_recommended_pattern_still_ignores_case_after_json() -> None:
    policy = RedactionPolicy.model_validate_json(RedactionPolicy.recommended().model_dump_json())
    assert policy.redact_text("BEARER abc") == MASK


# --- records and results ---------------------------------------------------------------------------------------------


def record(**changes: Any) -> StepRecord:
    values: dict[str, Any] = {
        "step_index": 1,
        "tool_name": "login",
        "inputs": {"token": "t", "user": "u"},
        "outputs": {"secret": "s", "ok": True},
        "error_message": "token t",
        "started_at": NOW,
        "ended_at": NOW,
        "duration_ms": 1.0,
        "retry_errors": ["token t"],
        "approval": ApprovalRecord(decision=ApprovalDecision.APPROVE),
    }
    return StepRecord(**values | changes)


def result(**changes: Any) -> ExecutionResult:
    values: dict[str, Any] = {
        "flow_name": "f",
        "flow_version": "1",
        "success": True,
        "final_output": {"token": "t", "x": 1},
        "execution_log": [record()],
        "trace_id": "x",
        "started_at": NOW,
        "ended_at": NOW,
        "total_duration_ms": 1.0,
        "initial_input": {"password": "p", "y": 2},
    }
    return ExecutionResult(**values | changes)


def test_o_3_a_redacted_record_differs_in_inputs_and_outputs_only() -> None:
    original = record()
    redacted = RedactionPolicy().redact_step_record(original)
    assert redacted == record(inputs={"token": MASK, "user": "u"}, outputs={"secret": MASK, "ok": True})
    assert original == record()


def test_o_3_a_redacted_result_differs_in_log_input_and_output_only() -> None:
    original = result()
    redacted = RedactionPolicy().redact_execution_result(original)
    assert redacted == result(
        execution_log=[RedactionPolicy().redact_step_record(record())],
        initial_input={"password": MASK, "y": 2},
        final_output={"token": MASK, "x": 1},
    )
    assert original == result()


def test_o_3_absent_outputs_stay_none() -> None:
    assert RedactionPolicy().redact_step_record(record(outputs=None)).outputs is None
    assert RedactionPolicy().redact_execution_result(result(final_output=None)).final_output is None


def test_the_results_of_sub_flows_are_redacted_too() -> None:
    inner = result()
    middle = result(execution_log=[record(flow_name="inner", sub_result=inner)])
    outer = result(execution_log=[record(flow_name="middle", sub_result=middle)])
    policy = RedactionPolicy()
    redacted = policy.redact_execution_result(outer)
    assert redacted.execution_log[0].sub_result == policy.redact_execution_result(middle)
    assert '"password":"p"' not in redacted.model_dump_json()
    assert outer.execution_log[0].sub_result == middle


# --- log lines -------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[tuple[logging.Logger, list[logging.LogRecord]]]:
    """A logger of the package at INFO that hands its records to a list."""
    records: list[logging.LogRecord] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger = get_logger(f"{PRODUCT}.test_redaction")
    handler = Collect()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield logger, records
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def texts(records: list[logging.LogRecord]) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in records]


def test_o_7_the_three_lines_of_a_step(lines: Any) -> None:
    logger, records = lines
    log_step_start(logger, 2, "fetch", {"token": "t"})
    log_step_end(logger, 2, "fetch", {"n": 1})
    log_step_error(logger, 2, "fetch", ToolTimeoutError("fetch", 1.5))
    assert texts(records) == [
        (logging.INFO, "Step 2 START | tool=fetch | inputs={'token': 't'}"),
        (logging.INFO, "Step 2 END   | tool=fetch | outputs={'n': 1}"),
        (logging.ERROR, "Step 2 ERROR | tool=fetch | error=ToolTimeoutError: Tool 'fetch' exceeded timeout of 1.5s."),
    ]
    assert [record.msg for record in records] == [
        "Step %d START | tool=%s | inputs=%s",
        "Step %d END   | tool=%s | outputs=%s",
        "Step %d ERROR | tool=%s | error=%s: %s",
    ]


def test_o_7_log_lines_are_redacted_and_the_data_is_not(lines: Any) -> None:
    logger, records = lines
    data = {"token": "t", "a": 1}
    log_step_start(logger, 0, "t", data, redaction=RedactionPolicy())
    log_step_end(logger, 0, "t", data, redaction=RedactionPolicy())
    assert texts(records) == [
        (logging.INFO, "Step 0 START | tool=t | inputs={'token': '***REDACTED***', 'a': 1}"),
        (logging.INFO, "Step 0 END   | tool=t | outputs={'token': '***REDACTED***', 'a': 1}"),
    ]
    assert data == {"token": "t", "a": 1}


class Untouchable(dict[str, Any]):
    """Data that may be neither read nor shown."""

    def items(self) -> Any:
        raise AssertionError("was redacted")

    def __repr__(self) -> str:
        raise AssertionError("was formatted")


@pytest.mark.parametrize("log", [log_step_start, log_step_end])
def test_a_disabled_level_costs_neither_redaction_nor_formatting(log: Any, lines: Any) -> None:
    logger, records = lines
    logger.setLevel(logging.WARNING)
    log(logger, 0, "t", Untouchable(), redaction=RedactionPolicy())
    log(logger, 0, "t", Untouchable())
    assert records == []
    logger.setLevel(logging.INFO)
    with pytest.raises(AssertionError, match="was redacted"):
        log(logger, 0, "t", Untouchable(), redaction=RedactionPolicy())


def test_a_disabled_error_level_costs_no_formatting(lines: Any) -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise AssertionError("was formatted")

    logger, records = lines
    logger.setLevel(logging.CRITICAL)
    log_step_error(logger, 0, "t", Silent())
    assert records == []


def test_o_6_a_logger_has_the_full_name_and_nothing_of_ours() -> None:
    logger = get_logger(f"{PRODUCT}.some.module")
    assert logger is logging.getLogger("doubleweave.some.module")
    assert (logger.handlers, logger.level, logger.propagate) == ([], logging.NOTSET, True)


@pytest.mark.parametrize(
    "imports",
    [
        "import doubleweave",
        "import doubleweave.models.log_lines",
        "from doubleweave import *",
        "import doubleweave.plugins, doubleweave.stores.flow_directories, doubleweave.executor",
    ],
)
def test_o_6_the_package_logger_has_a_null_handler_only_and_no_logger_has_a_level(imports: str) -> None:
    program = (
        f"{imports}\n"
        "import logging\n"
        "package = logging.getLogger('doubleweave')\n"
        "print([type(h).__name__ for h in package.handlers], package.level, package.propagate, logging.root.handlers)\n"
        "below = [each for name, each in logging.root.manager.loggerDict.items() if name.startswith('doubleweave.')]\n"
        "print({(len(each.handlers), each.level) for each in below if isinstance(each, logging.Logger)} <= {(0, 0)})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['NullHandler'] 0 True []", "True"]


SPEAKERS = [
    "from doubleweave.models.log_lines import *\nlog_step_error(get_logger('doubleweave.executor'), 0, 't', ValueError('x'))",
    "from doubleweave import plugins\n"
    "plugins.entry_points = lambda **_: [plugins.EntryPoint('bad', 'gone:gone', 'x')]\n"
    "assert plugins.discover_tools() == []",
]


@pytest.mark.parametrize("program", SPEAKERS)
def test_o_6_nothing_is_printed_when_logging_is_not_configured(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
