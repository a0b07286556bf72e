"""The clocks that a run reads, and the source of its trace id."""

import time
import uuid
from datetime import UTC, datetime
from functools import partial

from doubleweave.core.setup import Clock


def _new_trace_id() -> str:
    return uuid.uuid4().hex


SYSTEM_CLOCK = Clock(
    now=partial(datetime.now, UTC), perf_counter=time.perf_counter, time=time.time, new_trace_id=_new_trace_id
)
