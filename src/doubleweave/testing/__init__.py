"""Testing flows: fakes, a runner that counts calls, recordings of real backends, and assertions.

The suites for storage backends are in `doubleweave.testing.protocol_suites`, which needs pytest.
"""

from doubleweave.testing.assertions import DEFAULT_IGNORE_FIELDS, assert_result_matches
from doubleweave.testing.capture import capture_steps
from doubleweave.testing.fakes import fake_tool
from doubleweave.testing.lanes import assert_lanes_agree
from doubleweave.testing.replay import FixtureStaleError, RecordReplayMode, record_then_replay
from doubleweave.testing.runner import FlowTestRunner

__all__ = [
    "DEFAULT_IGNORE_FIELDS",
    "FixtureStaleError",
    "FlowTestRunner",
    "RecordReplayMode",
    "assert_lanes_agree",
    "assert_result_matches",
    "capture_steps",
    "fake_tool",
    "record_then_replay",
]
