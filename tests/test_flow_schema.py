"""The JSON Schema of flow files: what is in it, that it is the committed one, and that it accepts what the loader accepts."""

import json
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator

import doubleweave as dw
import flow_schema
from doubleweave.models.flow_schema import _merge
from flow_files_under_test import CORPUS, DAG, FULL, LINEAR, any_flows

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = dw.flow_schema_json()
VALIDATOR = Draft202012Validator(SCHEMA)
KINDS: dict[str, type[dw.AnyFlow]] = {"Flow": dw.Flow, "DAGFlow": dw.DAGFlow}


def test_the_head_has_schema_id_title_description_oneof_and_defs() -> None:
    assert dw.SCHEMA_DIALECT == SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"] == dw.SCHEMA_ID
    assert dw.SCHEMA_ID.startswith("https://")
    assert dw.SCHEMA_ID.endswith("/flow.schema.json")
    assert SCHEMA["title"] == "Flow file"
    assert SCHEMA["description"].startswith("A flow of doubleweave")
    assert SCHEMA["oneOf"] == [{"$ref": "#/$defs/Flow"}, {"$ref": "#/$defs/DAGFlow"}]
    assert set(SCHEMA) == {"$schema", "$id", "title", "description", "oneOf", "$defs"}
    Draft202012Validator.check_schema(SCHEMA)


def test_js_1_the_definitions_are_those_of_pydantic_and_none_is_nested() -> None:
    assert set(SCHEMA["$defs"]) == {
        *(
            "Flow",
            "DAGFlow",
            "FlowStep",
            "DAGFlowStep",
            "ConditionalEdge",
            "RetryPolicy",
            "FlowStatus",
            "FlowGovernance",
        ),
        *("FlowLifecycle", "ToolSafetyContract", "SideEffectLevel", "StabilityLevel", "DeterminismLevel"),
    }
    for name, model in KINDS.items():
        own = model.model_json_schema(mode="validation", ref_template="#/$defs/{model}")
        for nested, body in own.pop("$defs").items():
            assert SCHEMA["$defs"][nested] == body
        assert SCHEMA["$defs"][name]["description"] == own["description"]
        for field, body in own["properties"].items():
            assert SCHEMA["$defs"][name]["properties"][field] == body
    assert '"$defs"' not in json.dumps(SCHEMA["$defs"])


@pytest.mark.parametrize("name", KINDS)
def test_js_2_both_kinds_have_type_and_format_version(name: str) -> None:
    kind = SCHEMA["$defs"][name]
    assert kind["title"] == name
    properties = kind["properties"]
    assert {**properties["type"], "description": ""} == {"type": "string", "const": name, "description": ""}
    assert {**properties["format_version"], "description": ""} == {"type": "string", "description": ""}
    assert properties["type"]["description"]
    assert properties["format_version"]["description"]
    own = KINDS[name].model_json_schema()["required"]
    assert sorted(kind["required"]) == sorted([*own, "type"])


def keys_not_declared(data: Any, schema: dict[str, Any], path: str = "$") -> list[str]:
    """Return the keys in `data` that its schema has no property for, where it has properties at all."""
    while "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].split("/")[-1]]
    for option in schema.get("anyOf", []):
        if data is not None and option != {"type": "null"}:
            return keys_not_declared(data, option, path)
    if isinstance(data, list):
        return [key for item in data for key in keys_not_declared(item, schema.get("items", {}), f"{path}[]")]
    if not isinstance(data, dict) or "properties" not in schema:
        return []
    found = [f"{path}.{key}" for key in data if key not in schema["properties"]]
    inner = (
        keys_not_declared(data[key], body, f"{path}.{key}") for key, body in schema["properties"].items() if key in data
    )
    return [*found, *(key for each in inner for key in each)]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(flow=any_flows)
def test_js_3_every_key_that_is_written_is_declared_and_every_written_flow_is_valid(flow: dw.AnyFlow) -> None:
    data = dw.flow_to_dict(flow)
    assert keys_not_declared(data, SCHEMA["$defs"][data["type"]]) == []
    VALIDATOR.validate(data)


def test_js_3_keys_that_are_not_declared_are_found_and_allowed() -> None:
    data = {**DAG, "x": 1, "governance": {"y": 1}, "steps": [{**DAG["steps"][0], "retry": {"z": 1}}]}
    assert keys_not_declared(data, SCHEMA["$defs"]["DAGFlow"]) == ["$.x", "$.steps[].retry.z", "$.governance.y"]
    VALIDATOR.validate(data)


@pytest.mark.parametrize("data", [LINEAR, DAG, dw.flow_to_dict(FULL)])
@pytest.mark.parametrize("fault", [{"type": "flow"}, {"type": None}, {"name": 1}, {"steps": None}, {"steps": [1]}])
def test_a_flow_is_of_one_of_the_kinds(data: dict[str, Any], fault: dict[str, Any]) -> None:
    assert VALIDATOR.is_valid(data)
    assert not VALIDATOR.is_valid({**data, **fault})


def test_what_is_valid_and_yet_refused_is_what_a_schema_cannot_say() -> None:
    malformed = {path.name: json.loads(path.read_text()) for path in CORPUS.glob("10-*.json")}
    valid = {name.split(".")[0].removeprefix("10-") for name, data in malformed.items() if VALIDATOR.is_valid(data)}
    assert valid == {
        *("step_without_tool_or_flow", "step_with_tool_and_flow", "on_error_unknown", "on_error_empty_fallback"),
        *("retry_no_errors", "retry_malformed_error", "read_only_contradiction", "review_contradiction"),
        *("candidates_empty", "candidates_duplicates", "candidates_without_tool", "candidates_of_sub_flow"),
        *("capability_id_on_tool_step", "default_next_without_branches", "branches_on_capability_step"),
    }


def test_js_4_the_committed_file_is_what_the_models_say() -> None:
    committed = files("doubleweave") / "schemas" / "flow.schema.json"
    assert committed.read_bytes() == (json.dumps(dw.flow_schema_json(), indent=2, sort_keys=True) + "\n").encode()
    assert Path(str(committed)) == ROOT / flow_schema.NAME


def test_js_4_the_tool_writes_the_file_and_finds_that_it_is_not_up_to_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / flow_schema.NAME
    stale = f'{flow_schema.NAME} is not what the models say: run "make generate"\n'
    assert flow_schema.main(["check"], tmp_path) == 1
    assert capsys.readouterr().out == stale
    assert flow_schema.main(["generate"], tmp_path) == 0
    assert capsys.readouterr().out == f"{flow_schema.NAME}\n"
    assert path.read_bytes() == (ROOT / flow_schema.NAME).read_bytes()
    assert flow_schema.main(["check"], tmp_path) == flow_schema.main(["generate"], tmp_path) == 0
    assert capsys.readouterr().out == ""
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert flow_schema.main(["check"], tmp_path) == 1


def test_js_4_the_wheel_has_the_file(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").iterdir()
    shutil.unpack_archive(wheel, tmp_path / "unpacked", "zip")
    packed = tmp_path / "unpacked" / "doubleweave" / "schemas" / "flow.schema.json"
    assert packed.read_bytes() == (ROOT / flow_schema.NAME).read_bytes()


def test_flow_schema_json_refuses_two_models_of_one_name_with_different_bodies() -> None:
    definitions: dict[str, Any] = {}
    for _ in range(2):
        _merge(definitions, {"Step": {"type": "object"}})
    with pytest.raises(ValueError, match=r"^two models have the name 'Step' and different schemas$"):
        _merge(definitions, {"Step": {"type": "string"}})
    assert definitions == {"Step": {"type": "object"}}


def test_js_5_the_patterns_match_what_the_loader_takes() -> None:
    assert dw.FILE_MATCH_PATTERNS == ("**/*.flow.json", "**/*.flow.yaml", "**/*.flow.yml")
    names = {path.name for path in CORPUS.iterdir()}
    assert all(any(fnmatch(f"a/{name}", pattern) for pattern in dw.FILE_MATCH_PATTERNS) for name in names)
