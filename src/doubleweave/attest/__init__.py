"""Showing that a flow is deterministic in practice: the same inputs, run again and again, give the same outputs."""

from doubleweave.attest.attestation import AttestationReport, attest_flow, attest_flow_async
from doubleweave.attest.values import AttestationInputError, UnsupportedAnnotation, generate_value

__all__ = [
    "AttestationInputError",
    "AttestationReport",
    "UnsupportedAnnotation",
    "attest_flow",
    "attest_flow_async",
    "generate_value",
]
