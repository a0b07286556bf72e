"""Flows and everything they are made of.

The classes and functions give this module as theirs, so that pickles and refs do not depend on where they are defined.
"""

from types import FunctionType

from doubleweave.models.compatibility import DriftInfo
from doubleweave.models.flows import AnyFlow, ContextCollisionPolicy, DAGFlow, Flow, FlowStatus
from doubleweave.models.governance import FlowGovernance, FlowLifecycle
from doubleweave.models.refs import (
    SchemaRefAllowlist,
    SchemaRefPolicy,
    get_schema_ref_policy,
    resolve_class_ref,
    schema_ref_policy,
    set_schema_ref_policy,
)
from doubleweave.models.steps import ConditionalEdge, DAGFlowStep, FlowStep, RetryPolicy
from doubleweave.models.topology import validate_dag_topology

__all__ = [
    "AnyFlow",
    "ConditionalEdge",
    "ContextCollisionPolicy",
    "DAGFlow",
    "DAGFlowStep",
    "DriftInfo",
    "Flow",
    "FlowGovernance",
    "FlowLifecycle",
    "FlowStatus",
    "FlowStep",
    "RetryPolicy",
    "SchemaRefAllowlist",
    "SchemaRefPolicy",
    "get_schema_ref_policy",
    "resolve_class_ref",
    "schema_ref_policy",
    "set_schema_ref_policy",
    "validate_dag_topology",
]

for _name in __all__:
    _member = globals()[_name]
    if isinstance(_member, type | FunctionType):
        _member.__module__ = __name__
del _name, _member
