"""Flows from the files of a directory: loaded, reloaded when they change, watched."""

import copy
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import FlowRegistry, FlowStatus, ReloadReport
from doubleweave.stores.flow_directories import FlowDirectories, _Look
from executors_under_test import execute, lanes
from lanes_under_test import number_tool

WAIT = 20.0


def adding(name: str, number: int) -> dw.Tool:
    return number_tool(name, lambda v: {"n": v.n + number})


def text(name: str = "f", version: str = "1", tool: str = "t", **fields: Any) -> str:
    steps = [{"tool_name": tool}]
    return json.dumps({"type": "Flow", "name": name, "version": version, "description": "", "steps": steps, **fields})


def write(folder: Path, **contents: str) -> None:
    """Write files; their names are those of the parameters: `a__b__flow__json` is `a/b.flow.json`."""
    for name, content in contents.items():
        *parts, end = name.split("__flow__")
        path = folder / f"{parts[0].replace('__', '/')}.flow.{end}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def report(**changes: list[str]) -> ReloadReport:
    return ReloadReport(**changes)


class TestLoading:
    def test_h_1_flow_files_are_found_below_by_the_end_of_their_names_in_any_case(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("a"), b__deep__c__flow__yaml=text("c"), b__d__flow__yml=text("d"))
        (tmp_path / "E.FLOW.Json").write_text(text("e"))
        (tmp_path / ".hidden").mkdir()
        (tmp_path / ".hidden" / ".flow.json").write_text(text("h"))
        for other in ("x.json", "x.flow.json.bak", "flow.json", "x.flow.toml", "README.md"):
            (tmp_path / other).write_text("no flow")
        (tmp_path / "dir.flow.json").mkdir()
        os.mkfifo(tmp_path / "pipe.flow.json")
        registry = FlowRegistry()
        assert registry.load_from_directory(str(tmp_path)) == report(added=["a@1", "c@1", "d@1", "e@1", "h@1"])
        assert [flow.name for flow in registry.list_flows()] == ["a", "c", "d", "e", "h"]

    def test_h_1_symbolic_links_are_not_followed(self, tmp_path: Path) -> None:
        write(tmp_path, flows__a__flow__json=text("a"), elsewhere__b__flow__json=text("b"))
        (tmp_path / "flows" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (tmp_path / "flows" / "again.flow.json").symlink_to(tmp_path / "flows" / "a.flow.json")
        (tmp_path / "flows" / "loop").symlink_to(tmp_path / "flows", target_is_directory=True)
        (tmp_path / "flows" / "gone.flow.json").symlink_to(tmp_path / "nothing")
        assert FlowRegistry().load_from_directory(tmp_path / "flows").added == ["a@1"]

    def test_h_1_files_are_taken_in_the_order_of_their_paths(self, tmp_path: Path) -> None:
        write(tmp_path, b__flow__json=text("b"), a__z__flow__json=text("z"), c__flow__json="{", d__flow__json=text("d"))
        registry = FlowRegistry()
        with pytest.raises(dw.FlowSerializationError, match=r"c\.flow\.json"):
            registry.load_from_directory(tmp_path)
        assert sorted(flow.name for flow in registry.list_flows()) == ["b", "z"]

    @pytest.mark.parametrize("method", ["load_from_directory", "reload_from_directory", "watch"])
    def test_h_2_h_5_filenotfounderror_and_notadirectoryerror(self, tmp_path: Path, method: str) -> None:
        call = getattr(FlowRegistry(), method)
        with pytest.raises(FileNotFoundError, match=r"^there is no directory '.*gone' to load flows from$"):
            call(tmp_path / "gone")
        (tmp_path / "file").write_text("")
        with pytest.raises(NotADirectoryError, match=r"^'.*file' is no directory to load flows from$"):
            call(tmp_path / "file")

    @pytest.mark.parametrize("method", ["load_from_directory", "reload_from_directory"])
    def test_h_2_a_malformed_file_stops_and_is_named(self, tmp_path: Path, method: str) -> None:
        write(tmp_path, a__flow__json=text("a"), b__flow__yaml="steps: [", c__flow__json=text("c"))
        registry = FlowRegistry()
        with pytest.raises(dw.FlowSerializationError, match="Invalid YAML") as caught:
            getattr(registry, method)(tmp_path)
        assert caught.value.source == str(tmp_path / "b.flow.yaml")
        assert [flow.name for flow in registry.list_flows()] == ["a"]

    def test_h_2_two_files_with_one_name_and_version_are_named(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("f"), b__flow__json=text("f", "2"), sub__c__flow__yaml=text("f"))
        registry = FlowRegistry()
        with pytest.raises(dw.FlowSerializationError) as caught:
            registry.load_from_directory(tmp_path)
        assert caught.value.detail == "'a.flow.json' and 'sub/c.flow.yaml' both hold the flow 'f@1'"
        assert caught.value.source == str(tmp_path / "sub" / "c.flow.yaml")
        assert registry.list_flow_versions("f") == ["1", "2"]

    def test_h_2_everything_is_added_each_time(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("a"), b__flow__json=text("b", "1.0"))
        registry = FlowRegistry()
        for _ in range(2):
            assert registry.load_from_directory(tmp_path) == report(added=["a@1", "b@1.0"])

    def test_h_2_what_is_registered_is_replaced_unless_overwrite_is_false(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("a", description="of the file"))
        registry = FlowRegistry()
        registry.register_flow(dw.Flow(name="a", version="1", description="of the program", steps=[]))
        with pytest.raises(dw.FlowAlreadyExistsError) as caught:
            registry.load_from_directory(tmp_path, overwrite=False)
        assert caught.value.__notes__ == [f"The flow is in {tmp_path / 'a.flow.json'}."]
        assert registry.get_flow("a").description == "of the program"
        registry.load_from_directory(tmp_path)
        assert registry.get_flow("a").description == "of the file"

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            (text(version="no version"), dw.InvalidFlowVersionError),
            (
                text(type="DAGFlow", steps=[{"step_id": "a", "tool_name": "t", "depends_on": ["a"]}]),
                dw.DAGDefinitionError,
            ),
        ],
    )
    def test_rj_4_what_registration_refuses_is_told_with_its_file(
        self, tmp_path: Path, content: str, error: type[dw.DoubleweaveError]
    ) -> None:
        write(tmp_path, a__flow__json=content)
        with pytest.raises(error) as caught:
            FlowRegistry().load_from_directory(tmp_path)
        assert caught.value.__notes__ == [f"The flow is in {tmp_path / 'a.flow.json'}."]


class TestReloading:
    def test_h_3_new_and_changed_files_are_registered_and_others_left_alone(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("a"), b__flow__json=text("b"), c__flow__json=text("c"))
        registry = FlowRegistry()
        assert registry.reload_from_directory(tmp_path) == report(added=["a@1", "b@1", "c@1"])
        a, b = registry.get_flow("a"), registry.get_flow("b")
        write(tmp_path, b__flow__json=text("b", tool="u"), d__flow__json=text("d"))
        (tmp_path / "c.flow.json").unlink()
        assert registry.reload_from_directory(tmp_path) == report(added=["d@1"], updated=["b@1"], unchanged=["a@1"])
        assert registry.get_flow("a") is a
        assert registry.get_flow("b") is not b
        assert registry.get_flow("b").steps[0].tool_name == "u"
        assert registry.get_flow("c").name == "c"
        assert registry.reload_from_directory(tmp_path) == report(unchanged=["a@1", "b@1", "d@1"])

    def test_h_3_reloading_compares_with_loading_and_with_the_same_directory_by_any_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path, flows__a__flow__json=text("a"), other__b__flow__json=text("b"))
        (tmp_path / "link").symlink_to(tmp_path / "flows", target_is_directory=True)
        registry = FlowRegistry()
        registry.load_from_directory(tmp_path / "flows")
        monkeypatch.chdir(tmp_path)
        for name in ("flows", "./other/../flows", "link"):
            assert registry.reload_from_directory(name) == report(unchanged=["a@1"])
        assert registry.reload_from_directory("other") == report(added=["b@1"])

    def test_h_3_a_flow_in_another_file_is_the_same_flow_and_a_new_version_is_a_new_one(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("a"), b__flow__json=text("b"))
        registry = FlowRegistry()
        registry.load_from_directory(tmp_path)
        (tmp_path / "a.flow.json").rename(tmp_path / "z.flow.json")
        write(tmp_path, b__flow__json=text("b", "2"))
        assert registry.reload_from_directory(tmp_path) == report(added=["b@2"], unchanged=["a@1"])
        assert registry.list_flow_versions("b") == ["1", "2"]
        (tmp_path / "z.flow.json").write_text(text("b", "2"))
        (tmp_path / "b.flow.json").write_text(text("a"))
        assert registry.reload_from_directory(tmp_path) == report(unchanged=["a@1", "b@2"])

    def test_h_3_a_change_of_bytes_alone_is_a_change(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("a"))
        registry = FlowRegistry()
        registry.load_from_directory(tmp_path)
        write(tmp_path, a__flow__json=text("a") + "\n")
        assert registry.reload_from_directory(tmp_path) == report(updated=["a@1"])

    def test_h_3_unchanged_flows_keep_the_state_that_they_were_given(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("a"))
        registry = FlowRegistry()
        registry.load_from_directory(tmp_path)
        registry.set_flow_status("a", FlowStatus.DISABLED)
        registry.reload_from_directory(tmp_path)
        assert registry.get_flow("a").status is FlowStatus.DISABLED

    def test_h_3_a_pass_that_fails_records_nothing_and_does_not_register_again(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("a"), b__flow__json="{")
        registry = FlowRegistry()
        with pytest.raises(dw.FlowSerializationError):
            registry.reload_from_directory(tmp_path)
        registry.set_flow_status("a", FlowStatus.DISABLED)
        with pytest.raises(dw.FlowSerializationError):
            registry.reload_from_directory(tmp_path)
        write(tmp_path, b__flow__json=text("b"))
        assert registry.reload_from_directory(tmp_path) == report(added=["a@1", "b@1"])
        assert registry.get_flow("a").status is FlowStatus.DISABLED

    def test_h_3_a_flow_that_changed_back_while_another_file_was_malformed_is_registered_again(
        self, tmp_path: Path
    ) -> None:
        write(tmp_path, a__flow__json=text("a"), b__flow__json=text("b"))
        registry = FlowRegistry()
        registry.load_from_directory(tmp_path)
        write(tmp_path, a__flow__json=text("a", tool="u"), b__flow__json="{")
        with pytest.raises(dw.FlowSerializationError):
            registry.reload_from_directory(tmp_path)
        assert registry.get_flow("a").steps[0].tool_name == "u"
        write(tmp_path, a__flow__json=text("a"), b__flow__json=text("b"))
        assert registry.reload_from_directory(tmp_path) == report(unchanged=["a@1", "b@1"])
        assert registry.get_flow("a").steps[0].tool_name == "t"

    def test_h_3_a_load_that_fails_keeps_what_was_known(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("a"), b__flow__json=text("b"))
        registry = FlowRegistry()
        registry.load_from_directory(tmp_path)
        write(tmp_path, b__flow__json="{")
        with pytest.raises(dw.FlowSerializationError):
            registry.load_from_directory(tmp_path)
        write(tmp_path, b__flow__json=text("b"))
        assert registry.reload_from_directory(tmp_path) == report(unchanged=["a@1", "b@1"])

    def test_h_4_a_report_is_frozen_empty_by_default_and_knows_whether_anything_changed(self) -> None:
        empty = ReloadReport()
        assert (empty.added, empty.updated, empty.unchanged) == ([], [], [])
        assert ReloadReport().added is not empty.added
        assert [
            each.changed for each in (empty, report(added=["a"]), report(updated=["a"]), report(unchanged=["a"]))
        ] == [*(False, True, True, False)]
        with pytest.raises(ValueError, match="frozen"):
            empty.added = ["a"]  # type: ignore[misc]  # what is refused

    def test_h_4_lists_are_sorted(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("z"), b__flow__json=text("m", "10"), c__flow__json=text("m", "9"))
        registry = FlowRegistry()
        assert registry.load_from_directory(tmp_path).added == ["m@10", "m@9", "z@1"]
        assert registry.reload_from_directory(tmp_path).unchanged == ["m@10", "m@9", "z@1"]

    def test_h_6_tools_are_neither_registered_nor_removed(self, tmp_path: Path) -> None:
        registry = FlowRegistry()
        executor = dw.FlowExecutor(registry)
        executor.register_tool(number_tool("t", lambda v: {"n": v.n}))
        write(tmp_path, a__flow__json=text("a"), b__flow__json=text("b", tool="unknown"))
        registry.load_from_directory(tmp_path)
        (tmp_path / "a.flow.json").unlink()
        registry.reload_from_directory(tmp_path)
        assert list(executor.registered_tools) == ["t"]


@lanes
def test_an_executor_runs_what_was_reloaded_on_both_lanes(tmp_path: Path, lane: str) -> None:
    write(tmp_path, f__flow__yaml=text())
    registry = FlowRegistry()
    registry.load_from_directory(tmp_path)
    executor = dw.FlowExecutor(registry)
    for name, add in (("t", 1), ("u", 10)):
        executor.register_tool(adding(name, add))
    assert execute(executor, lane, {"n": 1}, "f").final_output == {"n": 2}
    write(tmp_path, f__flow__yaml=text(tool="u"))
    registry.reload_from_directory(tmp_path)
    assert execute(executor, lane, {"n": 1}, "f").final_output == {"n": 11}
    assert executor.registry is registry


class Reports:
    """Collects what `on_reload` is called with, and lets a test wait for it."""

    def __init__(self) -> None:
        self.seen: list[ReloadReport] = []
        self.threads: set[threading.Thread] = set()
        self._condition = threading.Condition()

    def __call__(self, changes: ReloadReport) -> None:
        with self._condition:
            self.seen.append(changes)
            self.threads.add(threading.current_thread())
            self._condition.notify_all()

    def wait_for(self, count: int) -> list[ReloadReport]:
        with self._condition:
            assert self._condition.wait_for(lambda: len(self.seen) >= count, WAIT)
            return self.seen[:count]


class Lines(logging.Handler):
    """Collects log lines, and lets a test wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._condition = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._condition:
            self.lines.append(f"{record.levelname} {record.getMessage()}")
            self._condition.notify_all()

    def wait_for(self, part: str) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: any(part in line for line in self.lines), WAIT)


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("doubleweave.registry")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


class TestWatching:
    @pytest.mark.parametrize("interval", [0, -1, 0.0, float("nan"), float("-inf")])
    def test_h_5_valueerror_for_an_interval_not_above_0(self, tmp_path: Path, interval: float) -> None:
        with pytest.raises(ValueError, match=r"^poll_interval_seconds must be above 0, got "):
            FlowRegistry().watch(tmp_path, poll_interval_seconds=interval)

    def test_h_5_a_daemon_thread_reloads_at_once_and_then_every_interval(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("a"))
        registry, reports = FlowRegistry(), Reports()
        with registry.watch(tmp_path, poll_interval_seconds=0.01, on_reload=reports) as handle:
            assert handle.running
            assert reports.wait_for(1) == [report(added=["a@1"])]
            write(tmp_path, b__flow__json=text("b"))
            assert reports.wait_for(2)[1] == report(added=["b@1"], unchanged=["a@1"])
            assert registry.get_flow("b").name == "b"
            ((thread),) = reports.threads
            assert thread.daemon
            assert thread.name == "doubleweave-watch"
        assert not handle.running

    def test_h_5_what_was_loaded_before_is_not_told_again(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("a"))
        registry, reports = FlowRegistry(), Reports()
        registry.load_from_directory(tmp_path)
        with registry.watch(tmp_path, poll_interval_seconds=0.01, on_reload=reports):
            write(tmp_path, a__flow__json=text("a", tool="u"))
            assert reports.wait_for(1) == [report(updated=["a@1"])]

    def test_h_5_a_malformed_file_is_tried_again(self, tmp_path: Path, lines: Lines) -> None:
        write(tmp_path, a__flow__json=text("a")[:-9])
        registry, reports = FlowRegistry(), Reports()
        with registry.watch(tmp_path, poll_interval_seconds=0.01, on_reload=reports) as handle:
            lines.wait_for("a.flow.json': Invalid JSON: ")
            assert handle.running
            write(tmp_path, a__flow__json=text("a"))
            assert reports.wait_for(1) == [report(added=["a@1"])]

    def test_h_5_so_is_everything_else_that_goes_wrong(self, tmp_path: Path, lines: Lines) -> None:
        folder = tmp_path / "flows"
        write(folder, a__flow__json=text("a", "no version"))
        registry, reports = FlowRegistry(), Reports()
        with registry.watch(folder, poll_interval_seconds=0.01, on_reload=reports):
            lines.wait_for("InvalidFlowVersionError: Flow 'a' has invalid version 'no version'")
            folder.rename(tmp_path / "moved")
            lines.wait_for("FileNotFoundError: there is no directory")
            write(folder, a__flow__json=text("a"))
            assert reports.wait_for(1) == [report(added=["a@1"])]

    def test_h_5_a_fault_is_logged_once_as_long_as_it_stays(self, tmp_path: Path, lines: Lines) -> None:
        write(tmp_path, a__flow__json="[]")
        registry, reports = FlowRegistry(), Reports()
        look = _Look(FlowDirectories(registry.register_flow), tmp_path, reports)
        for content in ("[]", "[]", "1", "1", text("a"), text("a"), "1"):
            write(tmp_path, a__flow__json=content)
            look()
        head = f"WARNING Flows of {tmp_path} are not reloaded, which is tried again: FlowSerializationError: Flow"
        source = f"serialization failed for '{tmp_path / 'a.flow.json'}': Expected a mapping at the top level, found"
        assert lines.lines == [f"{head} {source} {kind}." for kind in ("list", "int", "int")]
        assert reports.seen == [report(added=["a@1"])]

    @pytest.mark.parametrize(
        "error", [RuntimeError("no such display"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr
    )
    def test_h_5_what_on_reload_raises_is_logged_and_watching_goes_on(
        self, tmp_path: Path, lines: Lines, error: BaseException
    ) -> None:
        reports = Reports()

        def fail(changes: ReloadReport) -> None:
            reports(changes)
            raise error

        write(tmp_path, a__flow__json=text("a"))
        with FlowRegistry().watch(tmp_path, poll_interval_seconds=0.01, on_reload=fail) as handle:
            lines.wait_for(f"ERROR on_reload raised for {tmp_path}; watching goes on")
            write(tmp_path, b__flow__json=text("b"))
            reports.wait_for(2)
            assert handle.running

    def test_h_5_stop_is_prompt_and_may_be_called_again(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("a"))
        reports = Reports()
        # As long as a thread can wait, and longer.
        for count, interval in enumerate((3600.0, 1e300, float("inf")), start=1):
            handle = FlowRegistry().watch(tmp_path, poll_interval_seconds=interval, on_reload=reports)
            reports.wait_for(count)
            start = time.monotonic()
            handle.stop()
            assert time.monotonic() - start < 4
            assert not handle.running
            handle.stop(timeout=0)

    def test_h_5_stop_waits_no_longer_than_its_timeout(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("a"))
        begun, go_on = threading.Event(), threading.Event()

        def wait(_: ReloadReport) -> None:
            begun.set()
            assert go_on.wait(WAIT)

        handle = FlowRegistry().watch(tmp_path, on_reload=wait)
        assert begun.wait(WAIT)
        handle.stop(timeout=0.01)
        assert handle.running
        go_on.set()
        handle.stop()
        assert not handle.running

    def test_h_5_on_reload_may_stop_the_watching(self, tmp_path: Path) -> None:
        write(tmp_path, a__flow__json=text("a"))
        reports, ready = Reports(), threading.Event()

        def stop(changes: ReloadReport) -> None:
            assert ready.wait(WAIT)
            handle.stop()
            reports(changes)

        handle = FlowRegistry().watch(tmp_path, poll_interval_seconds=0.01, on_reload=stop)
        ready.set()
        reports.wait_for(1)
        handle.stop()
        assert not handle.running

    def test_two_watchers_and_a_reload_of_one_directory_tell_each_change_once(self, tmp_path: Path) -> None:
        registry, reports = FlowRegistry(), Reports()
        write(tmp_path, a__flow__json=text("a"))
        with (
            registry.watch(tmp_path, poll_interval_seconds=0.001, on_reload=reports),
            registry.watch(tmp_path, poll_interval_seconds=0.001, on_reload=reports),
        ):
            reports.wait_for(1)
            for version in range(2, 12):
                (tmp_path / "new").write_text(text("a", str(version)))
                (tmp_path / "new").rename(tmp_path / f"{version}.flow.json")
                reports.wait_for(version)
        assert [added for each in reports.seen for added in each.added] == [f"a@{version}" for version in range(1, 12)]
        assert registry.get_flow("a").version == "11"

    @lanes
    def test_flows_are_reloaded_while_they_run(self, tmp_path: Path, lane: str) -> None:
        registry, reports = FlowRegistry(), Reports()
        executor = dw.FlowExecutor(registry)
        executor.register_tool(number_tool("t", lambda v: {"n": v.n + 1}))
        write(tmp_path, f__flow__json=text())
        with registry.watch(tmp_path, poll_interval_seconds=0.001, on_reload=reports):
            reports.wait_for(1)
            for version in range(2, 30):
                (tmp_path / "new").write_text(text("f", str(version)))
                (tmp_path / "new").rename(tmp_path / "f.flow.json")
                result = execute(executor, lane, {"n": 1}, "f")
                assert (result.success, result.final_output) == (True, {"n": 2})


def test_a_registry_is_copied_with_its_flows() -> None:
    registry = FlowRegistry()
    registry.register_flow(dw.Flow(name="a", description="", steps=[]))
    assert copy.deepcopy(registry).get_flow("a") == registry.get_flow("a")
