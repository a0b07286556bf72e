"""The pytest plugin: PT-1 to PT-5."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import pytest_doubleweave
from doubleweave.testing import FlowTestRunner

pytest_plugins = ["pytester"]
INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\naddopts = -p no:cacheprovider -W error"

ROOT = Path(__file__).resolve().parent.parent


def test_pt_1_the_plugin_is_an_entry_point_and_loading_it_does_not_import_the_library() -> None:
    (found,) = [each for each in entry_points(group="pytest11") if each.value == "pytest_doubleweave"]
    assert found.load() is pytest_doubleweave
    code = "import sys, pytest_doubleweave; print([name for name in sys.modules if name.startswith('doubleweave')])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_pt_1_pytest_loads_it_by_itself_and_without_the_library(pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)
    pytester.makepyfile(
        """
        import sys

        def test_it(request):
            assert request.config.pluginmanager.has_plugin("doubleweave")
            assert "doubleweave" not in sys.modules
            request.getfixturevalue("flow_runner")
            assert "doubleweave" in sys.modules
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_pt_1_it_is_in_the_wheel(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed"
    code = (
        "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2]); sys.path.insert(0, sys.argv[2])\n"
        "import pytest_doubleweave, doubleweave.testing.protocol_suites as suites\n"
        "from importlib.metadata import distributions\n"
        "(mine,) = [d for d in distributions(path=[sys.argv[2]])]\n"
        "print(pytest_doubleweave.__file__, suites.__file__, *mine.entry_points.select(group='pytest11').names)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(wheel), str(target)], capture_output=True, text=True, check=True
    )
    suites = target / "doubleweave" / "testing" / "protocol_suites.py"
    assert done.stdout == f"{target / 'pytest_doubleweave.py'} {suites} doubleweave\n"


def test_pt_2_the_marker_is_declared(pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)
    pytester.runpytest_inprocess("--markers").stdout.fnmatch_lines(["@pytest.mark.flow(name): *"])
    pytester.makepyfile("import pytest\n@pytest.mark.flow('order')\ndef test_it(): pass")
    pytester.runpytest_inprocess("--strict-markers").assert_outcomes(passed=1)


def test_pt_3_flow_runner_is_fresh_for_each_test_and_the_other_one_shared(pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)
    pytester.makepyfile(
        """
        import pytest
        from doubleweave import Flow, FlowStep

        seen = []

        @pytest.mark.parametrize("turn", [0, 1])
        def test_it(turn, flow_runner, flow_runner_session):
            assert len(flow_runner.registry) == 0
            assert flow_runner_session.calls_to("t") == turn
            for runner in (flow_runner, flow_runner_session):
                runner.register(Flow(name="main", description="", steps=[FlowStep(tool_name="t")]))
                runner.fake_tool("t", {"n": 1})
                assert runner.execute("main", {}).final_output == {"n": 1}
            seen.append((flow_runner, flow_runner_session))

        def test_what_was_seen():
            (first, session), (second, same) = seen
            assert first is not second
            assert session is same
        """
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=3)


@pytest.mark.flow("order")
def test_pt_4_the_marker_names_the_flow_and_does_nothing(
    request: pytest.FixtureRequest, flow_runner: FlowTestRunner
) -> None:
    marker = request.node.get_closest_marker("flow")
    assert marker.args[0] == "order"
    assert len(flow_runner.registry) == 0


async def test_pt_3_the_fixture_runs_flows_on_both_lanes(flow_runner: FlowTestRunner) -> None:
    from parity_scenarios import linear, step

    flow_runner.register(linear(step("t")))
    flow_runner.fake_tool("t", {"n": 1})
    assert flow_runner.execute("main", {}).final_output == {"n": 1}
    assert (await flow_runner.execute_async("main", {})).final_output == {"n": 1}
    assert flow_runner.calls_to("t") == 2


def test_pt_5_the_plugin_has_three_names() -> None:
    assert sorted(pytest_doubleweave.__all__) == ["flow_runner", "flow_runner_session", "pytest_configure"]
