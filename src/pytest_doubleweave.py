"""The pytest plugin of Doubleweave: fixtures that run flows, and the marker `flow`.

The library is not imported before a test asks for a fixture.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from doubleweave.testing import FlowTestRunner

__all__ = ["flow_runner", "flow_runner_session", "pytest_configure"]


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker `flow(name)`, which says which flow a test is about."""
    config.addinivalue_line("markers", "flow(name): the flow that the test is about")


@pytest.fixture
def flow_runner() -> "FlowTestRunner":
    """A `FlowTestRunner` of the test's own."""
    from doubleweave.testing import FlowTestRunner

    return FlowTestRunner()


@pytest.fixture(scope="session")
def flow_runner_session() -> "FlowTestRunner":
    """One `FlowTestRunner` for all tests of a session."""
    from doubleweave.testing import FlowTestRunner

    return FlowTestRunner()
