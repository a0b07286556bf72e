"""Finding inputs, and faults of tools, under which a flow does not keep its promises."""

from doubleweave.fuzz.fuzzer import FlowFuzzer
from doubleweave.fuzz.minimize import minimize_failure, minimize_failure_async
from doubleweave.fuzz.properties import (
    BUILTIN_PROPERTIES,
    FaultConfig,
    FlowProperty,
    FuzzCase,
    FuzzConfigError,
    FuzzFailure,
    FuzzReport,
)

__all__ = [
    "BUILTIN_PROPERTIES",
    "FaultConfig",
    "FlowFuzzer",
    "FlowProperty",
    "FuzzCase",
    "FuzzConfigError",
    "FuzzFailure",
    "FuzzReport",
    "minimize_failure",
    "minimize_failure_async",
]
