"""The commands that run a flow many times: `attest` and `fuzz`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import doubleweave as dw
from doubleweave.cli import options
from doubleweave.cli.running import Job, on_lane, other_flows, write_trace
from doubleweave.cli.sources import (
    import_tools,
    import_user_module,
    is_there,
    load_flow,
    parse_json,
    read_input,
    read_text,
    restrict_refs,
    sanitize_path_component,
)
from doubleweave.cli.text import Format, emit_envelope, emit_json, fail, print_table, say

if TYPE_CHECKING:
    from doubleweave.models.flows import AnyFlow

Seed = Annotated[int, typer.Option("--seed", help="Of what is drawn at random: the same seed gives the same inputs.")]
SaveFailures = Annotated[
    Path | None, typer.Option("--save-failures", metavar="DIR", help="Keep the result of each violation here as JSON.")
]
Redact = Annotated[bool, typer.Option("--redact/--no-redact", help="Mask secrets in printed inputs and saved results.")]


def attest(
    flow_file: options.FlowFile,
    tools: options.Tools = None,
    runs: Annotated[int, typer.Option("--runs", metavar="N", help="How many inputs are generated.")] = 100,
    repeats: Annotated[int, typer.Option("--repeats", metavar="N", help="How often each input is run.")] = 3,
    seed: Seed = 0,
    seed_input: Annotated[
        Path | None,
        typer.Option("--seed-input", metavar="FILE", help="A JSON array of inputs to run in place of generated ones."),
    ] = None,
    format_: options.Formatted = Format.JSON,
    discover_dir: options.SubFlows = None,
    schema_ref_allow: options.RefAllow = None,
    on_async_lane: options.OnAsyncLane = False,
) -> None:
    """Run a flow again and again on the same inputs, and report whether its outputs agree.

    Exit code 0 when they do, 1 when they do not or a run failed, 2 when a file or a tools module is missing.
    """
    if runs < 1:
        fail(f"--runs must be >= 1, got {runs}")
    if repeats < 2:
        fail(f"--repeats must be >= 2, got {repeats}")
    restrict_refs(schema_ref_allow)
    trial = _Trial.of(flow_file, tools, discover_dir, on_async_lane)
    seed_inputs = None if seed_input is None else _read_seed_inputs(seed_input)
    report = trial.attest(n=runs, repeats=repeats, seed=seed, seed_inputs=seed_inputs)
    told = report.model_dump(mode="json", fallback=str)
    for each in told["divergences"]:
        each["input_payload"] = dw.RedactionPolicy().redact(each["input_payload"])
    if format_ is Format.JSON:
        errors = [{"code": None, "message": _described(each)} for each in told["divergences"]]
        emit_envelope(told, status="error" if errors else "ok", errors=errors)
    else:
        _print_attestation(told)
    raise typer.Exit(0 if report.observed_deterministic else 1)


def fuzz(
    flow_file: options.FlowFile,
    tools: options.Tools = None,
    properties: Annotated[
        list[str] | None,
        typer.Option(
            "--property", "-p", metavar="NAME", help="What must hold: a built-in property, or module:attr; repeatable."
        ),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", "-n", metavar="N", help="How many cases are run.")] = 100,
    seed: Seed = 0,
    input_: options.Input = None,
    input_file: options.InputFile = None,
    save_failures: SaveFailures = None,
    output_fault_prob: Annotated[
        float, typer.Option("--output-fault-prob", metavar="P", help="How likely an output of a tool is changed.")
    ] = 0.0,
    minimize: Annotated[
        bool, typer.Option("--minimize", help="Make each input that violates a property small.")
    ] = False,
    redact: Redact = True,
    format_: options.Formatted = Format.TABLE,
    discover_dir: options.SubFlows = None,
    schema_ref_allow: options.RefAllow = None,
    on_async_lane: options.OnAsyncLane = False,
) -> None:
    """Run a flow on many strange inputs, and report which properties of its results they violate.

    Exit code 0 when none is violated, 1 when one is, 2 when a file, a tools module or a property's module is missing.
    """
    if runs < 1:
        fail(f"--runs must be >= 1, got {runs}")
    if not 0.0 <= output_fault_prob <= 1.0:
        fail(f"--output-fault-prob must be within 0 and 1, got {output_fault_prob}")
    _require_room_for(save_failures)
    restrict_refs(schema_ref_allow)
    trial = _Trial.of(flow_file, tools, discover_dir, on_async_lane)
    known = _properties(properties or ["flow_succeeds"], are_in_file_names=save_failures is not None)
    base_input = None if input_ is None and input_file is None else read_input(input_, input_file)
    report = trial.fuzz(
        list(known.values()), dw.FaultConfig(output_fault_prob), runs=runs, seed=seed, base_input=base_input
    )
    told = _Told(report.flow_name, dw.RedactionPolicy() if redact else None, save_failures)
    cases = []
    for failure in report.failures:
        if minimize:
            cases.append(told.minimized(failure, trial.minimized(failure, known[failure.property_name])))
        else:
            cases.append(told.as_found(failure))
    _print_fuzzing(report, cases, format_)
    raise typer.Exit(0 if report.passed else 1)


@dataclass
class _Trial:
    """A flow and an executor of the lane that was asked for."""

    flow: AnyFlow
    executor: Any
    on_async_lane: bool

    @classmethod
    def of(cls, flow_file: Path, tools: list[str] | None, discover_dir: Path | None, on_async_lane: bool) -> _Trial:
        """Load a flow and its tools, or end the command."""
        flow = load_flow(flow_file)
        flows = [flow, *other_flows(discover_dir, flow)]
        return cls(flow, Job(import_tools(tools), flows, on_async_lane).executor([]), on_async_lane)

    def attest(self, **settings: Any) -> dw.AttestationReport:
        """Run each input several times."""
        attest: Any = dw.attest_flow_async if self.on_async_lane else dw.attest_flow
        report: dw.AttestationReport = self._run(lambda: attest(flow=self.flow, executor=self.executor, **settings))
        return report

    def fuzz(self, properties: list[dw.FlowProperty], faults: dw.FaultConfig, **settings: Any) -> dw.FuzzReport:
        """Run each case once."""
        fuzzer = dw.FlowFuzzer(self.executor, self.flow, properties, faults)
        fuzz: Any = fuzzer.run_async if self.on_async_lane else fuzzer.run
        report: dw.FuzzReport = self._run(lambda: fuzz(**settings))
        return report

    def minimized(self, failure: dw.FuzzFailure, prop: dw.FlowProperty) -> dw.FuzzFailure | None:
        """Return the failure of the smallest input that still violates the property without any fault; None if none does."""
        try:
            smallest = self._smallest(failure.initial_input, prop)
        except dw.FuzzConfigError:
            return None
        again = self.fuzz([prop], dw.FaultConfig(), runs=1, seed=0, base_input=smallest)
        return again.failures[0] if again.failures else None

    def _smallest(self, inputs: dict[str, Any], prop: dw.FlowProperty) -> dict[str, Any]:
        minimize: Any = dw.minimize_failure_async if self.on_async_lane else dw.minimize_failure
        smallest: dict[str, Any] = self._run(lambda: minimize(self.executor, self.flow, inputs, prop))
        return smallest

    def _run(self, start: Callable[[], Any]) -> Any:
        return on_lane(start, self.on_async_lane)


def _read_seed_inputs(path: Path) -> list[dict[str, Any]]:
    document = parse_json(read_text(path), f"malformed --seed-input {path}")
    if not isinstance(document, list) or not document or not all(isinstance(each, dict) for each in document):
        fail(f"--seed-input {path} must be a JSON array of objects, one at least")
    return document


def _described(divergence: dict[str, Any]) -> str:
    step = divergence["diverging_step"]
    place = "" if step is None else f", step {step}"
    return f"input {divergence['input_index']}{place}: {divergence['error_message']}"


def _print_attestation(told: dict[str, Any]) -> None:
    say(f"Flow: {told['flow_name']} v{told['flow_version']}")
    say(f"runs: {told['n']}  ·  repeats: {told['repeats']}  ·  seed: {told['seed']}")
    say(f"fingerprint: {told['aggregate_fingerprint']}")
    say("PASS" if told["observed_deterministic"] else "FAIL")
    for each in told["divergences"]:
        say(f"{_described(each)}  {_one_line(each['input_payload'])}".replace("\n", " "))


def _require_room_for(directory: Path | None) -> None:
    if directory is not None and is_there(directory) and not directory.is_dir():
        fail(f"not a directory: {directory}", 2)


def _properties(names: list[str], *, are_in_file_names: bool) -> dict[str, dw.FlowProperty]:
    """Return properties by name, or end the command when two would have one name, or one file."""
    found: dict[str, dw.FlowProperty] = {}
    for name in names:
        prop = _property(name)
        key = sanitize_path_component(prop.name) if are_in_file_names else prop.name
        if key in found:
            fail(f"duplicate property name: '{prop.name}' and '{found[key].name}'")
        found[key] = prop
    return {prop.name: prop for prop in found.values()}


def _property(name: str) -> dw.FlowProperty:
    if name in dw.BUILTIN_PROPERTIES:
        return dw.BUILTIN_PROPERTIES[name]
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        known = ", ".join(sorted(dw.BUILTIN_PROPERTIES))
        fail(f"unknown property '{name}': give module:attr, or one of {known}")
    try:
        value = getattr(import_user_module(module, "property module"), attribute)
    except AttributeError:
        fail(f"property '{attribute}' not found in module '{module}'")
    if isinstance(value, dw.FlowProperty):
        return value
    if not callable(value):
        fail(f"{name} is neither a FlowProperty nor a callable")
    return dw.FlowProperty(name, value)


@dataclass
class _Told:
    """How violations are told and saved."""

    flow_name: str
    policy: dw.RedactionPolicy | None
    directory: Path | None

    def as_found(self, failure: dw.FuzzFailure) -> dict[str, Any]:
        """Return what is printed of a violation, and save its trace."""
        return {**self._facts(failure), **self._saved(failure, failure.result)}

    def minimized(self, failure: dw.FuzzFailure, smallest: dw.FuzzFailure | None) -> dict[str, Any]:
        """As `as_found`, with the smallest input that violates the property, and its trace; None if no input alone does."""
        inputs = None if smallest is None else self._masked(smallest.initial_input)
        saved = self._saved(failure, (smallest or failure).result)
        return {**self._facts(failure), "minimized_input": inputs, **saved}

    def _facts(self, failure: dw.FuzzFailure) -> dict[str, Any]:
        return {
            "property": failure.property_name,
            "case_index": failure.case_index,
            "initial_input": self._masked(failure.initial_input),
            "check_error": failure.check_error,
        }

    def _saved(self, failure: dw.FuzzFailure, result: dw.ExecutionResult) -> dict[str, Any]:
        if self.directory is None:
            return {}
        names = sanitize_path_component(self.flow_name), sanitize_path_component(failure.property_name)
        path = self.directory / f"{'.'.join(names)}.case{failure.case_index}.json"
        write_trace(path, result, self.policy is not None)
        return {"saved": str(path)}

    def _masked(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs if self.policy is None else self.policy.redact(inputs)


def _print_fuzzing(report: dw.FuzzReport, cases: list[dict[str, Any]], format_: Format) -> None:
    facts = {
        "flow": report.flow_name,
        "runs": report.runs,
        "seed": report.seed,
        "properties": report.property_names,
        "failures": len(cases),
    }
    if format_ is Format.JSON:
        emit_json({**facts, "failure_cases": cases})
        return
    say(f"Flow: {report.flow_name}  ·  runs: {report.runs}  ·  seed: {report.seed}")
    say(f"properties: {', '.join(report.property_names)}")
    if not cases:
        say("no property violations found")
        return
    say(f"failures: {len(cases)}")
    print_table(tuple(cases[0]), [[_cell(value) for value in case.values()] for case in cases])


def _cell(value: Any) -> Any:
    if value is None:
        return "-"
    return _one_line(value) if isinstance(value, dict) else value


def _one_line(value: Any) -> str:
    return json.dumps(value, default=str)
