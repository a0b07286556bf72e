"""A corpus of malformed files, one for each way to be refused; the number in a file's name is the order of its check."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

import doubleweave as dw
from flow_files_under_test import CORPUS, LINEAR, TEXTS, forms, refusal, refused, text_forms

HEADS = {
    "03": "Invalid ",
    "04": "YAML payload is empty",
    "05": "Expected a mapping at the top level, found ",
    "06": "$.",
    "08": "Missing or invalid 'type' discriminator: $.type is ",
    "09": "Unsupported flow file format_version ",
    "10": "Validation failed while reconstructing ",
}
NO_JSON = "which is none of the types that JSON has: put it in quotes, or write out what it stands for"
ALIAS = "is refused, since a few aliases can stand for any number of values (max_nodes): write the value out"
# What follows the head, as far as the library says it and not a parser.
DETAILS = {
    "03-duplicate_key.flow.json": "JSON: the key 'a' stands twice in $.steps[0].input_mapping",
    "03-duplicate_top_level_key.flow.json": "JSON: the key 'name' stands twice in $",
    "03-not_a_number.flow.json": "JSON: NaN is not a JSON number",
    "03-infinity.flow.json": "JSON: -Infinity is not a JSON number",
    "03-number_too_large.flow.json": "JSON: the number 1e999 is larger than a float can be",
    "03-integer_too_long.flow.json": "JSON: the number 77777777777777777777... is longer than 4300 digits",
    "03-python_tag.flow.yaml": (
        "YAML: line 2, column 7: !!python/object/apply:os.system is none of the types that JSON has"
    ),
    "03-python_name.flow.yaml": f"YAML: line 2, column 7: '' is read as !!python/name:os.system, {NO_JSON}",
    "03-application_tag.flow.yaml": f"YAML: line 2, column 7: 'x' is read as !secret, {NO_JSON}",
    "03-alias.flow.yaml": f"YAML: line 3, column 14: the alias *n {ALIAS}",
    "03-alias_of_nothing.flow.yaml": f"YAML: line 2, column 7: the alias *gone {ALIAS}",
    "03-exponential_aliases.flow.yaml": f"YAML: line 2, column 8: the alias *a {ALIAS}",
    "03-recursive_alias.flow.yaml": f"YAML: line 2, column 12: the alias *s {ALIAS}",
    "03-duplicate_key.flow.yaml": "YAML: line 7, column 3: the key 'on_error' stands twice in $.steps[0]",
    "03-duplicate_top_level_key.flow.yaml": "YAML: line 6, column 1: the key 'name' stands twice in $",
    "03-merge_key.flow.yaml": f"YAML: line 2, column 1: '<<' is read as !!merge, {NO_JSON}",
    "03-date.flow.yaml": f"YAML: line 6, column 29: '2024-01-31' is read as !!timestamp, {NO_JSON}",
    "03-binary.flow.yaml": f"YAML: line 6, column 25: 'aGk=' is read as !!binary, {NO_JSON}",
    "03-set.flow.yaml": "YAML: line 6, column 25: !!set is none of the types that JSON has",
    "03-ordered_map.flow.yaml": "YAML: line 6, column 25: !!omap is none of the types that JSON has",
    **{
        f"03-{word}_as_key.flow.yaml": (
            f"YAML: line 6, column 22: a key is of the type {kind}, and keys are texts: put it in quotes"
        )
        for word, kind in (("number", "int"), ("boolean", "bool"), ("list", "list"), ("null", "NoneType"))
    },
    "03-not_a_number.flow.yaml": "YAML: line 6, column 25: '.nan' is nan, which is not a JSON number",
    "03-infinity.flow.yaml": "YAML: line 6, column 25: '-.inf' is -inf, which is not a JSON number",
    "03-number_too_long.flow.yaml": "YAML: line 6, column 25: a number is longer than 4300 characters",
    "03-no_such_integer.flow.yaml": "YAML: line 6, column 25: 'many' is no !!int",
    "03-two_documents.flow.yaml": "YAML: line 6, column 1: a second document begins, and a file has one",
    "03-byte_order_mark.flow.yaml": "YAML: '\\ufeff' stands in the text, which YAML drops or takes for the end of a line",
    **{f"05-{word}.flow.json": "list" for word in ("list", "deep_list")},
    **{f"05-{word}.flow.yaml": "list" for word in ("list", "deep_list")},
    "05-string.flow.json": "str",
    "05-string.flow.yaml": "str",
    "05-number.flow.json": "int",
    "05-number.flow.yaml": "float",
    "05-null.flow.json": "NoneType",
    "05-true.flow.json": "bool",
    **{
        f"06-max_depth{word}": f"{key}.x{'[0]' * 62} is nested deeper than max_depth=64 allows"
        for word, key in (
            (".flow.json", "trigger_conditions"),
            (".flow.yaml", "trigger_conditions"),
            ("_in_unknown_key.flow.json", "extra"),
        )
    },
    "06-half_a_surrogate_pair.flow.json": "name is a text of half a surrogate pair, which is no Unicode",
    "06-half_a_surrogate_pair_in_key.flow.json": (
        "trigger_conditions has a key of half a surrogate pair, which is no Unicode"
    ),
    **{
        f"08-{word}": f"{shown}, and must be 'Flow' or 'DAGFlow'"
        for word, shown in (
            ("missing_type.flow.json", "None"),
            ("missing_type.flow.yaml", "None"),
            ("empty_mapping.flow.json", "None"),
            ("null_type.flow.json", "None"),
            ("unknown_type.flow.json", "'Workflow'"),
            ("lower_case_type.flow.json", "'flow'"),
            ("blank_after_type.flow.json", "'Flow '"),
            ("number_as_type.flow.json", "1"),
            ("list_as_type.flow.json", "of the type list"),
        )
    },
    **{
        f"09-{word}": f"{shown}: this release reads 1.x"
        for word, shown in (
            ("next_major.flow.json", "'2'"),
            ("next_major.flow.yaml", "'2.1'"),
            ("major_zero.flow.json", "'0'"),
            ("far_future.flow.json", "'999.0.0'"),
            ("garbage.flow.json", "'garbage'"),
            ("empty.flow.json", "''"),
            ("number.flow.json", "2"),
            ("true.flow.json", "True"),
            ("list.flow.json", "of the type list"),
            ("huge.flow.json", "of the type int"),
        )
    },
}
# Files of order 10, each with the kind of flow, the path and what is wrong there.
ORDER_10 = {
    "missing_name": "Flow: $.name: Field required",
    "missing_description": "Flow: $.description: Field required",
    "missing_steps": "Flow: $.steps: Field required",
    **{
        f"steps_{word}": "Flow: $.steps: Input should be a valid list" for word in ("null", "text", "mapping", "number")
    },
    **{f"step_{word}": "Flow: $.steps[0]: Input should be a valid dict" for word in ("null", "text", "list")},
    "step_without_tool_or_flow": "Flow: $.steps[0]: Value error, a step requires exactly one of 'tool_name' or 'flow_name'",
    "step_with_tool_and_flow": "Flow: $.steps[2]: Value error, a step requires exactly one of 'tool_name' or 'flow_name'",
    "input_mapping_list": "Flow: $.steps[2].input_mapping: Input should be a valid dictionary",
    "input_mapping_text": "Flow: $.steps[2].input_mapping: Input should be a valid dictionary",
    "tool_name_number": "Flow: $.steps[2].tool_name: Input should be a valid string",
    "output_mapping_number": "Flow: $.steps[2].output_mapping.a: Input should be a valid string",
    "on_error_unknown": "Flow: $.steps[2].on_error: Value error, on_error must be 'fail', 'skip' or ",
    "on_error_empty_fallback": "Flow: $.steps[2].on_error: Value error, on_error must be 'fail', 'skip' or ",
    "retry_text": "Flow: $.steps[2].retry: Input should be a valid dict",
    "retry_negative": "Flow: $.steps[2].retry.max_retries: Input should be greater than or equal to 0",
    "retry_negative_backoff": "Flow: $.steps[2].retry.backoff_seconds: Input should be greater than or equal to 0",
    "retry_shrinking_backoff": "Flow: $.steps[2].retry.backoff_multiplier: Input should be greater than or equal to 1",
    "retry_no_errors": "Flow: $.steps[2].retry.retryable_errors: Value error, retryable_errors must hold at least one",
    "retry_malformed_error": (
        "Flow: $.steps[2].retry.retryable_errors: Value error, retryable error 'ValueError' must be in 'module:qualname' form"
    ),
    "candidates_empty": "Flow: $.steps[2]: Value error, decision_candidates must hold at least one tool name",
    "candidates_duplicates": "Flow: $.steps[2]: Value error, decision_candidates must not hold duplicates",
    "candidates_without_tool": "Flow: $.steps[2]: Value error, tool_name 't' must be a member of decision_candidates",
    "candidates_of_sub_flow": "Flow: $.steps[0]: Value error, decision_candidates are only valid for tool steps",
    "name_number": "Flow: $.name: Input should be a valid string",
    "version_number": "Flow: $.version: Input should be a valid string",
    "status_unknown": "Flow: $.status: Input should be 'active', 'needs_review' or 'disabled'",
    "collision_policy_unknown": "Flow: $.on_context_collision: Input should be 'overwrite', 'warn' or 'error'",
    "deterministic_text": "Flow: $.deterministic: Input should be a valid boolean",
    "lifecycle_unknown": "Flow: $.governance.lifecycle: Input should be 'observed', 'suggested', ",
    "negative_estimate": "Flow: $.governance.estimated_model_calls_removed: Input should be greater than or equal to 0",
    "read_only_contradiction": "Flow: $.safety: Value error, read_only=True conflicts with side_effects='write'",
    "review_contradiction": "Flow: $.safety: Value error, requires_review=True conflicts with requires_approval=False",
    "dag_without_version": "DAGFlow: $.version: Field required",
    "dag_step_without_id": "DAGFlow: $.steps[0].step_id: Field required",
    "capability_id_on_tool_step": "DAGFlow: $.steps[0]: Value error, capability_id must be None for a step of type 'tool'",
    "default_next_without_branches": "DAGFlow: $.steps[0]: Value error, default_next needs at least one branch",
    "branches_on_capability_step": "DAGFlow: $.steps[0]: Value error, branches are not allowed on a step of type 'capability'",
    "branch_without_predicate": "DAGFlow: $.steps[0].branches[0].predicate: Field required",
    "step_type_unknown": "DAGFlow: $.steps[0].step_type: Input should be 'tool' or 'capability'",
    "depends_on_text": "DAGFlow: $.steps[0].depends_on: Input should be a valid list",
}
FILES = sorted(CORPUS.iterdir())
DETAILS |= {f"10-{name}.flow.json": detail for name, detail in ORDER_10.items()}
DETAILS["10-version_number.flow.yaml"] = ORDER_10["version_number"]
corpus = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


@pytest.fixture(params=["CSafeLoader", "SafeLoader"], autouse=True)
def _loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run everything with the parser in C and with the one that every `pyyaml` has."""
    if request.param == "SafeLoader":
        monkeypatch.delattr(yaml, "CSafeLoader")


@corpus
def test_each_file_of_the_corpus_is_refused_in_its_order(path: Path) -> None:
    detail = refusal(dw.load_flow_file, path).detail
    order = path.name[:2]
    head = HEADS[order]
    assert detail.startswith(head)
    rest = detail.removeprefix(head)
    if order in ("03", "10"):
        assert rest.startswith(DETAILS.get(path.name, "JSON: " if path.suffix == ".json" else "YAML: "))
    else:
        assert rest == DETAILS.get(path.name, "")


@corpus
def test_fl_4_no_file_of_the_corpus_makes_a_module_be_imported(path: Path) -> None:
    refusal(dw.load_flow_file, path)  # The parser and its encodings are imported now.
    loaded = set(sys.modules)
    refusal(dw.load_flow_file, path)
    assert set(sys.modules) == loaded


def test_rj_1_the_corpus_has_every_fault_of_the_model() -> None:
    assert {path.name.split(".")[0].removeprefix("10-") for path in FILES if path.name.startswith("10")} == set(
        ORDER_10
    )
    assert set(DETAILS) <= {path.name for path in FILES}


@corpus
def test_rj_3_the_cause_of_an_unreadable_text_and_of_a_failed_validation_is_kept(path: Path) -> None:
    cause = refusal(dw.load_flow_file, path).__cause__
    if path.name.startswith("10"):
        assert isinstance(cause, ValidationError)
    elif path.name.startswith("03") and path.suffix == ".json":
        assert isinstance(cause, ValueError)
    elif path.name.startswith("03"):
        said_by_the_parser = path.name not in DETAILS and "not_utf_8" not in path.name
        assert isinstance(cause, yaml.YAMLError if said_by_the_parser else Exception)


def test_order_1_rj_3_without_pyyaml_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    # Whatever is wrong with the text, and no source is told.
    with pytest.raises(dw.FlowSerializationError) as caught:
        dw.flow_from_yaml("x" * 99, source="s", limits=dw.FlowParseLimits(max_bytes=1))
    assert caught.value.detail == 'YAML needs the package pyyaml: pip install "doubleweave[yaml]"'
    assert caught.value.source is None
    assert isinstance(caught.value.__cause__, ImportError)
    flow = dw.flow_from_dict(LINEAR)
    with pytest.raises(dw.FlowSerializationError, match="pyyaml") as caught:
        dw.flow_to_yaml(flow)
    assert isinstance(caught.value.__cause__, ImportError)


@text_forms
def test_order_2_too_many_bytes_come_before_what_is_in_them(form: str) -> None:
    for text, limit in (("{[", 1), ("\u00e9", 1), ("{}" * 9, 17)):
        error = refusal(TEXTS[form][1], text, source="s", limits=dw.FlowParseLimits(max_bytes=limit))
        assert error.detail == f"the text has more bytes than max_bytes={limit} allows"


@text_forms
def test_order_3_comes_before_the_top_level(form: str) -> None:
    assert refusal(TEXTS[form][1], "[1, 2").detail.startswith(f"Invalid {form.upper()}: ")


def test_order_4_is_of_yaml_only() -> None:
    assert refusal(dw.flow_from_yaml, "", source="s").detail == "YAML payload is empty"
    assert refusal(dw.flow_from_json, "").detail.startswith("Invalid JSON")
    assert refusal(dw.flow_from_json, "null").detail == "Expected a mapping at the top level, found NoneType"


@forms
@pytest.mark.parametrize("top", [[LINEAR], "Flow", 1, 1.5, True], ids=lambda top: type(top).__name__)
def test_order_5_comes_before_the_structure(form: str, top: Any) -> None:
    limits = dw.FlowParseLimits(max_nodes=1, max_depth=1, max_string_length=1)
    detail = f"Expected a mapping at the top level, found {type(top).__name__}"
    assert refused(form, top, source="s", limits=limits).detail == detail


STEPS = [{"tool_name": "t"}] * 3
FEW = dw.FlowParseLimits(max_steps=2, max_string_length=99)
# Each of these has the fault of its order and those of all that follow.
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "order 6": (
        {"long": "x" * 100, "steps": STEPS, "type": "flow", "format_version": "2"},
        "$.long is a text of 100 characters, more than max_string_length=99 allows",
    ),
    "order 7": (
        {"steps": STEPS, "type": "flow", "format_version": "2"},
        "$.steps has more steps than max_steps=2 allows",
    ),
    "order 8": (
        {"type": "flow", "format_version": "2"},
        "Missing or invalid 'type' discriminator: $.type is 'flow', and must be 'Flow' or 'DAGFlow'",
    ),
    "order 9": (
        {"type": "Flow", "format_version": "2"},
        "Unsupported flow file format_version '2': this release reads 1.x",
    ),
    "order 10": (
        {"type": "Flow", "format_version": "1"},
        "Validation failed while reconstructing Flow: "
        "$.name: Field required; $.description: Field required; $.steps: Field required",
    ),
}


@forms
@pytest.mark.parametrize(("data", "detail"), FAULTS.values(), ids=FAULTS)
def test_the_first_fault_is_the_one_that_is_told(form: str, data: dict[str, Any], detail: str) -> None:
    assert refused(form, data, source="s", limits=FEW).detail == detail


@forms
@pytest.mark.parametrize("kind", [None, 1, 1.5, True, "flow", "FLOW", "Dagflow", "", ["Flow"], {"Flow": 1}])
def test_order_8_the_type_has_to_be_one_of_two_texts(form: str, kind: Any) -> None:
    shown = f"of the type {type(kind).__name__}" if isinstance(kind, list | dict) else repr(kind)
    detail = f"Missing or invalid 'type' discriminator: $.type is {shown}, and must be 'Flow' or 'DAGFlow'"
    assert refused(form, {**LINEAR, "type": kind}).detail == detail


def test_rj_5_a_file_of_another_kind_is_refused_by_its_name(tmp_path: Path) -> None:
    for name in ("f.json", "flow.yaml", "f.flow.yaml.bak", "f.flow.toml", "flowjson"):
        path = tmp_path / name
        path.write_text(json.dumps(LINEAR))
        error = refusal(dw.load_flow_file, path)
        assert error.detail == "Unrecognised file extension: a flow file ends in .flow.json, .flow.yaml, .flow.yml"
    refusal(dw.load_flow_file, tmp_path / "not there.txt")
    with pytest.raises(FileNotFoundError):
        dw.load_flow_file(tmp_path / "not there.flow.json")


@pytest.mark.parametrize(
    "name", ["f.flow.json", "F.FLOW.JSON", ".flow.json", "f.flow.yaml", "f.Flow.Yml", "a.b.flow.yml"]
)
def test_ff_1_a_file_is_known_by_the_end_of_its_name_in_any_case(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(json.dumps({**LINEAR, "description": "\u00e9"}, ensure_ascii=False), encoding="utf-8")
    for given in (path, str(path)):
        assert dw.load_flow_file(given).description == "\u00e9"


def test_ff_1_a_byte_order_mark_is_refused(tmp_path: Path) -> None:
    for name, form in (("f.flow.json", "JSON"), ("f.flow.yaml", "YAML")):
        path = tmp_path / name
        path.write_text(json.dumps(LINEAR), encoding="utf-8-sig")
        assert refusal(dw.load_flow_file, path).detail.startswith(f"Invalid {form}: ")


def test_a_file_that_is_too_long_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "f.flow.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    error = refusal(dw.load_flow_file, path)
    assert error.detail == "the text has more bytes than max_bytes=5242880 allows"
