"""Which Python distributions are installed here, how large are they, and whose metadata is incomplete?

One DAG answers it on both lanes. Three independent measurements overlap. One looks at a limited number of files an attempt,
so that it never holds a worker for long, and is retried until it is through. One needs a field that few distributions
declare, so its fallback answers. A branch decides whether the gaps are worth a report.
"""

import asyncio
import os
import time
from importlib.metadata import Distribution, distributions
from typing import Any

from pydantic import BaseModel

from doubleweave import ConditionalEdge, DAGFlow, DAGFlowStep, ExecutionResult, FlowExecutor, FlowRegistry, RetryPolicy
from doubleweave import tool as as_tool


class Names(BaseModel):
    names: list[str]


class Sizes(BaseModel):
    bytes_by_name: dict[str, int]


class Licences(BaseModel):
    licences: dict[str, str]


class Missing(BaseModel):
    without_summary: list[str]
    gaps: int


class Report(BaseModel):
    text: str


class NotThroughYetError(Exception):
    """An attempt has used up its share of files; the next one goes on from there."""


FILES_AN_ATTEMPT = 1500


def _installed() -> dict[str, Distribution]:
    return {dist.metadata["Name"]: dist for dist in distributions() if dist.metadata["Name"]}


def make_tools() -> list[Any]:
    """Return the tools of one audit; what they have found so far stays with them."""
    seen: dict[str, Distribution] = {}
    sizes: dict[str, int] = {}

    @as_tool(cacheable=False)
    def list_distributions() -> Names:
        """List the installed distributions."""
        seen.update(_installed())
        return Names(names=sorted(seen))

    @as_tool(cacheable=False)
    def measure(names: list[str]) -> Sizes:
        """Add up the sizes of each distribution's files on disk."""
        files = 0
        for name in names:
            if name in sizes:
                continue
            if files > FILES_AN_ATTEMPT:
                raise NotThroughYetError(f"{len(sizes)} of {len(names)} distributions measured")
            paths = [file.locate() for file in seen[name].files or ()]
            sizes[name] = sum(os.path.getsize(path) for path in paths if os.path.isfile(path))
            files += len(paths)
        return Sizes(bytes_by_name=sizes)

    @as_tool
    def licence_expressions(names: list[str]) -> Licences:
        """Read the SPDX expressions, which every distribution would have to declare."""
        return Licences(licences={name: str(seen[name].metadata.json["license_expression"]) for name in names})

    @as_tool
    def licence_fields(names: list[str]) -> Licences:
        """Read whatever each distribution says of its licence."""
        found = {}
        for name in names:
            fields = seen[name].metadata.json
            text = str(fields.get("license_expression") or fields.get("license") or "").strip() or "unknown"
            found[name] = text.splitlines()[0][:40]
        return Licences(licences=found)

    @as_tool
    async def find_gaps(names: list[str]) -> Missing:
        """Find distributions without a summary."""
        await asyncio.sleep(0)
        empty = [name for name in names if not seen[name].metadata.json.get("summary")]
        return Missing(without_summary=empty, gaps=len(empty))

    @as_tool
    def report_gaps(without_summary: list[str]) -> Report:
        """Name the distributions whose metadata is incomplete."""
        return Report(text="without a summary: " + ", ".join(without_summary))

    @as_tool
    def report_clean() -> Report:
        """Say that nothing is missing."""
        return Report(text="every distribution has a summary")

    return [list_distributions, measure, licence_expressions, licence_fields, find_gaps, report_gaps, report_clean]


FLOW = DAGFlow(
    name="audit",
    version="1.0",
    description="Audit of the installed Python distributions",
    steps=[
        DAGFlowStep(step_id="list", tool_name="list_distributions"),
        DAGFlowStep(
            step_id="sizes",
            tool_name="measure",
            depends_on=["list"],
            input_mapping={"names": "names"},
            retry=RetryPolicy(
                max_retries=1000,
                backoff_seconds=0.001,
                backoff_multiplier=1.0,
                retryable_errors=(f"{__name__}:NotThroughYetError",),
            ),
        ),
        DAGFlowStep(
            step_id="licences",
            tool_name="licence_expressions",
            depends_on=["list"],
            input_mapping={"names": "names"},
            on_error="fallback:licence_fields",
        ),
        DAGFlowStep(
            step_id="gaps",
            tool_name="find_gaps",
            depends_on=["list"],
            input_mapping={"names": "names"},
            branches=[ConditionalEdge(target_step_id="report", predicate="gaps > 0")],
            default_next="clean",
        ),
        DAGFlowStep(
            step_id="report",
            tool_name="report_gaps",
            depends_on=["gaps"],
            input_mapping={"without_summary": "without_summary"},
        ),
        DAGFlowStep(
            step_id="clean", tool_name="report_clean", depends_on=["gaps"], output_mapping={"clean_text": "text"}
        ),
    ],
)


def make_executor() -> FlowExecutor:
    """Return an executor that is ready to run the audit."""
    registry = FlowRegistry()
    registry.register_flow(FLOW)
    executor = FlowExecutor(registry, max_step_concurrency=3)
    for made in make_tools():
        executor.register_tool(made)
    return executor


def comparable(result: ExecutionResult) -> Any:
    """Return a result as plain data without ids and times."""
    times = {"trace_id", "started_at", "ended_at", "duration_ms", "total_duration_ms"}

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if key not in times}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return strip(result.model_dump())


def table(result: ExecutionResult) -> str:
    """Return the records as lines of text."""
    rows = ["step  tool                  outcome   retries  fallback        ms"]
    for record in result.execution_log:
        outcome = "skipped" if record.skipped else "ok" if record.success else "failed"
        fallback = record.fallback_tool_name or "-"
        rows.append(
            f"{record.step_index:>4}  {record.tool_name:<20}  {outcome:<8}  {record.retry_count:>7}  {fallback:<14}  "
            f"{record.duration_ms:>6.1f}"
        )
    return "\n".join(rows)


def main() -> int:
    """Run the audit on both lanes, print what happened, and say whether the results are identical."""
    start = time.perf_counter()
    blocking = make_executor().execute_flow("audit", {})
    blocking_ms = (time.perf_counter() - start) * 1000
    start = time.perf_counter()
    awaited = asyncio.run(make_executor().execute_flow_async("audit", {}))
    awaited_ms = (time.perf_counter() - start) * 1000
    print(table(blocking))
    output = blocking.final_output or {}
    sizes = output.get("bytes_by_name", {})
    print(f"\n{len(sizes)} distributions, {sum(sizes.values()) / 1e6:.1f} MB")
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]:
        print(f"  {name}: {sizes[name] / 1e6:.1f} MB, licence {output['licences'][name]}")
    print(output.get("text") or output.get("clean_text"))
    identical = comparable(blocking) == comparable(awaited)
    print(f"\nsync lane {blocking_ms:.1f} ms, async lane {awaited_ms:.1f} ms")
    print("the two results are identical" if identical else "THE TWO RESULTS DIFFER")
    return 0 if identical and blocking.success else 1


if __name__ == "__main__":
    raise SystemExit(main())
