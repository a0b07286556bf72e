"""Deterministic flows of typed tools, sync and async from one source."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Whatever of the package logs, a program that has not configured logging prints none of it.
logging.getLogger(__name__).addHandler(logging.NullHandler())

# What nobody asks for is not imported. Type checkers read the imports below; a test holds the two together.
_HOMES = {
    name: module
    for module, names in {
        "decorators": "tool",
        "tools": "StreamingTool Tool",
        "checking.compiler": "compile_flow CompilationError CompilationResult CompilationWarning",
        "checking.findings": "CheckReport Finding",
        "checking.flow_check": "check_flow",
        "attest": "AttestationInputError AttestationReport attest_flow attest_flow_async",
        "models.predicates": "evaluate_predicate",
        "errors": (
            "ApprovalDeniedError AsyncLaneUnsupportedError CheckpointCorruptError CheckpointDriftError "
            "CheckpointerNotConfiguredError CheckpointNotFoundError CheckpointSaveError CheckpointVersionError "
            "ContextKeyCollisionError ContribError CostProfileError DAGDefinitionError "
            "DecisionBudgetExceededError DecisionCallbackError DecisionTimeoutError DoubleweaveError "
            "error_code_for error_code_registry FlowAlreadyExistsError FlowCancelledError FlowCompositionError "
            "FlowExecutionError FlowNotFoundError FlowSerializationError FlowStatusError GuardrailViolationError "
            "InputMappingError InvalidFlowVersionError JsonSchemaDefinitionError JsonSchemaMismatchError "
            "KernelInvocationError MCPError MCPSchemaConversionError MCPToolInvocationError OutputMappingError "
            "PluginDiscoveryError PredicateSyntaxError "
            "SafetyCeilingError SchemaRefPolicyError SchemaValidationError ToolDefinitionError ToolNotFoundError "
            "ToolOutputSizeError ToolTimeoutError"
        ),
        "executor": "AsyncFlowExecutor FlowExecutor",
        "flow": (
            "AnyFlow ConditionalEdge ContextCollisionPolicy DAGFlow DAGFlowStep DriftInfo Flow FlowGovernance "
            "FlowLifecycle FlowStatus FlowStep get_schema_ref_policy resolve_class_ref RetryPolicy "
            "schema_ref_policy SchemaRefAllowlist SchemaRefPolicy set_schema_ref_policy validate_dag_topology"
        ),
        "fuzz": (
            "BUILTIN_PROPERTIES FaultConfig FlowFuzzer FlowProperty FuzzCase FuzzConfigError FuzzFailure FuzzReport "
            "minimize_failure minimize_failure_async"
        ),
        "models.builder": "FlowBuilder FlowBuilderError",
        "models.callbacks": (
            "ApprovalCallable ApprovalCallback ApprovalContext ApprovalDecision ApprovalRecord "
            "BaseApprovalCallback BaseDecisionCallback BaseGuardrailCallback coerce_approval_callback "
            "coerce_decision_callback coerce_guardrail_callback DecisionCallable DecisionCallback DecisionContext "
            "DecisionPolicy DecisionRecord GuardrailCallable GuardrailCallback GuardrailContext GuardrailStage"
        ),
        "models.cancellation": "CancellationToken",
        "models.chunks": "ToolChunk",
        "models.compatibility": "check_flow_compatibility CompatibilityIssue",
        "models.contracts": "DeterminismLevel merge_safety side_effect_exceeds SideEffectLevel StabilityLevel ToolSafetyContract",
        "models.cost": "compute_cost_report CostProfile CostReport lookup_price PriceSnap PROVIDER_PRICES",
        "models.drawing": "flow_to_ascii flow_to_dot flow_to_mermaid result_to_mermaid",
        "models.events": "FlowEvent FlowEventKind",
        "models.fingerprints": "schema_dict_fingerprint schema_fingerprint",
        "models.flow_files": "flow_from_dict flow_from_json flow_from_yaml flow_to_dict flow_to_json flow_to_yaml",
        "models.flow_schema": "FILE_MATCH_PATTERNS flow_schema_json SCHEMA_DIALECT SCHEMA_ID",
        "models.hooks": (
            "AttemptEndContext BaseMiddleware FlowEndContext FlowExecutorMiddleware FlowStartContext StepChunkContext "
            "StepEndContext StepStartContext"
        ),
        "models.json_schema": "JsonSchema",
        "models.log_lines": "get_logger log_step_end log_step_error log_step_start",
        "models.observation": "ObservedStep ObservedTrace TraceRecorder",
        "models.parse_limits": "DEFAULT_PARSE_LIMITS FlowParseLimits",
        "models.plans": "ExecutionPlan StepPlan",
        "models.product": "__version__",
        "models.records": "ExecutionResult StepRecord",
        "models.redaction": "DEFAULT_REDACT_KEYS RedactionPolicy",
        "models.replay": "ReplayMode ReplayResult StepDiff",
        "models.snapshots": "Checkpointer ExecutionSnapshot",
        "models.step_cache": "compute_input_value_hash StepCache StepCacheKey",
        "models.step_index": "FLOW_INPUT_STEP_INDEX flow_output_step_index",
        "models.storage": "InMemoryStore RegistryStore",
        "models.svg": "flow_to_svg",
        "models.versions": "FLOW_FORMAT_VERSION LEGACY_VERSION major same_major SNAPSHOT_VERSION TRACE_SCHEMA_VERSION",
        "pages.live": "LivePage",
        "pages.render": "run_page",
        "plugins": "discover_flows discover_tools",
        "registry": "FlowRegistry",
        "stores.flow_directories": "ReloadReport WatchHandle",
        "stores.flow_files": "FileStore load_flow_file",
        "stores.snapshots": "FileCheckpointer InMemoryCheckpointer",
        "stores.step_caches": "FileStepCache InMemoryStepCache",
        "stores.traces": "FileTraceStore InMemoryTraceStore redact_execution_result TraceStore",
        "testing.replay": "FixtureStaleError",
    }.items()
    for name in names.split()
}
_MODULES = {
    "attest",
    "contrib",
    "errors",
    "executor",
    "export",
    "flow",
    "fuzz",
    "integrations",
    "models",
    "pages",
    "plugins",
    "registry",
    "stores",
    "testing",
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from doubleweave.attest import AttestationInputError as AttestationInputError
    from doubleweave.attest import AttestationReport as AttestationReport
    from doubleweave.attest import attest_flow as attest_flow
    from doubleweave.attest import attest_flow_async as attest_flow_async
    from doubleweave.checking.compiler import CompilationError as CompilationError
    from doubleweave.checking.compiler import CompilationResult as CompilationResult
    from doubleweave.checking.compiler import CompilationWarning as CompilationWarning
    from doubleweave.checking.compiler import compile_flow as compile_flow
    from doubleweave.checking.findings import CheckReport as CheckReport
    from doubleweave.checking.findings import Finding as Finding
    from doubleweave.checking.flow_check import check_flow as check_flow
    from doubleweave.decorators import tool as tool
    from doubleweave.errors import ApprovalDeniedError as ApprovalDeniedError
    from doubleweave.errors import AsyncLaneUnsupportedError as AsyncLaneUnsupportedError
    from doubleweave.errors import CheckpointCorruptError as CheckpointCorruptError
    from doubleweave.errors import CheckpointDriftError as CheckpointDriftError
    from doubleweave.errors import CheckpointerNotConfiguredError as CheckpointerNotConfiguredError
    from doubleweave.errors import CheckpointNotFoundError as CheckpointNotFoundError
    from doubleweave.errors import CheckpointSaveError as CheckpointSaveError
    from doubleweave.errors import CheckpointVersionError as CheckpointVersionError
    from doubleweave.errors import ContextKeyCollisionError as ContextKeyCollisionError
    from doubleweave.errors import ContribError as ContribError
    from doubleweave.errors import CostProfileError as CostProfileError
    from doubleweave.errors import DAGDefinitionError as DAGDefinitionError
    from doubleweave.errors import DecisionBudgetExceededError as DecisionBudgetExceededError
    from doubleweave.errors import DecisionCallbackError as DecisionCallbackError
    from doubleweave.errors import DecisionTimeoutError as DecisionTimeoutError
    from doubleweave.errors import DoubleweaveError as DoubleweaveError
    from doubleweave.errors import FlowAlreadyExistsError as FlowAlreadyExistsError
    from doubleweave.errors import FlowCancelledError as FlowCancelledError
    from doubleweave.errors import FlowCompositionError as FlowCompositionError
    from doubleweave.errors import FlowExecutionError as FlowExecutionError
    from doubleweave.errors import FlowNotFoundError as FlowNotFoundError
    from doubleweave.errors import FlowSerializationError as FlowSerializationError
    from doubleweave.errors import FlowStatusError as FlowStatusError
    from doubleweave.errors import GuardrailViolationError as GuardrailViolationError
    from doubleweave.errors import InputMappingError as InputMappingError
    from doubleweave.errors import InvalidFlowVersionError as InvalidFlowVersionError
    from doubleweave.errors import JsonSchemaDefinitionError as JsonSchemaDefinitionError
    from doubleweave.errors import JsonSchemaMismatchError as JsonSchemaMismatchError
    from doubleweave.errors import KernelInvocationError as KernelInvocationError
    from doubleweave.errors import MCPError as MCPError
    from doubleweave.errors import MCPSchemaConversionError as MCPSchemaConversionError
    from doubleweave.errors import MCPToolInvocationError as MCPToolInvocationError
    from doubleweave.errors import OutputMappingError as OutputMappingError
    from doubleweave.errors import PluginDiscoveryError as PluginDiscoveryError
    from doubleweave.errors import PredicateSyntaxError as PredicateSyntaxError
    from doubleweave.errors import SafetyCeilingError as SafetyCeilingError
    from doubleweave.errors import SchemaRefPolicyError as SchemaRefPolicyError
    from doubleweave.errors import SchemaValidationError as SchemaValidationError
    from doubleweave.errors import ToolDefinitionError as ToolDefinitionError
    from doubleweave.errors import ToolNotFoundError as ToolNotFoundError
    from doubleweave.errors import ToolOutputSizeError as ToolOutputSizeError
    from doubleweave.errors import ToolTimeoutError as ToolTimeoutError
    from doubleweave.errors import error_code_for as error_code_for
    from doubleweave.errors import error_code_registry as error_code_registry
    from doubleweave.executor import AsyncFlowExecutor as AsyncFlowExecutor
    from doubleweave.executor import FlowExecutor as FlowExecutor
    from doubleweave.flow import AnyFlow as AnyFlow
    from doubleweave.flow import ConditionalEdge as ConditionalEdge
    from doubleweave.flow import ContextCollisionPolicy as ContextCollisionPolicy
    from doubleweave.flow import DAGFlow as DAGFlow
    from doubleweave.flow import DAGFlowStep as DAGFlowStep
    from doubleweave.flow import DriftInfo as DriftInfo
    from doubleweave.flow import Flow as Flow
    from doubleweave.flow import FlowGovernance as FlowGovernance
    from doubleweave.flow import FlowLifecycle as FlowLifecycle
    from doubleweave.flow import FlowStatus as FlowStatus
    from doubleweave.flow import FlowStep as FlowStep
    from doubleweave.flow import RetryPolicy as RetryPolicy
    from doubleweave.flow import SchemaRefAllowlist as SchemaRefAllowlist
    from doubleweave.flow import SchemaRefPolicy as SchemaRefPolicy
    from doubleweave.flow import get_schema_ref_policy as get_schema_ref_policy
    from doubleweave.flow import resolve_class_ref as resolve_class_ref
    from doubleweave.flow import schema_ref_policy as schema_ref_policy
    from doubleweave.flow import set_schema_ref_policy as set_schema_ref_policy
    from doubleweave.flow import validate_dag_topology as validate_dag_topology
    from doubleweave.fuzz import BUILTIN_PROPERTIES as BUILTIN_PROPERTIES
    from doubleweave.fuzz import FaultConfig as FaultConfig
    from doubleweave.fuzz import FlowFuzzer as FlowFuzzer
    from doubleweave.fuzz import FlowProperty as FlowProperty
    from doubleweave.fuzz import FuzzCase as FuzzCase
    from doubleweave.fuzz import FuzzConfigError as FuzzConfigError
    from doubleweave.fuzz import FuzzFailure as FuzzFailure
    from doubleweave.fuzz import FuzzReport as FuzzReport
    from doubleweave.fuzz import minimize_failure as minimize_failure
    from doubleweave.fuzz import minimize_failure_async as minimize_failure_async
    from doubleweave.models.builder import FlowBuilder as FlowBuilder
    from doubleweave.models.builder import FlowBuilderError as FlowBuilderError
    from doubleweave.models.callbacks import ApprovalCallable as ApprovalCallable
    from doubleweave.models.callbacks import ApprovalCallback as ApprovalCallback
    from doubleweave.models.callbacks import ApprovalContext as ApprovalContext
    from doubleweave.models.callbacks import ApprovalDecision as ApprovalDecision
    from doubleweave.models.callbacks import ApprovalRecord as ApprovalRecord
    from doubleweave.models.callbacks import BaseApprovalCallback as BaseApprovalCallback
    from doubleweave.models.callbacks import BaseDecisionCallback as BaseDecisionCallback
    from doubleweave.models.callbacks import BaseGuardrailCallback as BaseGuardrailCallback
    from doubleweave.models.callbacks import DecisionCallable as DecisionCallable
    from doubleweave.models.callbacks import DecisionCallback as DecisionCallback
    from doubleweave.models.callbacks import DecisionContext as DecisionContext
    from doubleweave.models.callbacks import DecisionPolicy as DecisionPolicy
    from doubleweave.models.callbacks import DecisionRecord as DecisionRecord
    from doubleweave.models.callbacks import GuardrailCallable as GuardrailCallable
    from doubleweave.models.callbacks import GuardrailCallback as GuardrailCallback
    from doubleweave.models.callbacks import GuardrailContext as GuardrailContext
    from doubleweave.models.callbacks import GuardrailStage as GuardrailStage
    from doubleweave.models.callbacks import coerce_approval_callback as coerce_approval_callback
    from doubleweave.models.callbacks import coerce_decision_callback as coerce_decision_callback
    from doubleweave.models.callbacks import coerce_guardrail_callback as coerce_guardrail_callback
    from doubleweave.models.cancellation import CancellationToken as CancellationToken
    from doubleweave.models.chunks import ToolChunk as ToolChunk
    from doubleweave.models.compatibility import CompatibilityIssue as CompatibilityIssue
    from doubleweave.models.compatibility import check_flow_compatibility as check_flow_compatibility
    from doubleweave.models.contracts import DeterminismLevel as DeterminismLevel
    from doubleweave.models.contracts import SideEffectLevel as SideEffectLevel
    from doubleweave.models.contracts import StabilityLevel as StabilityLevel
    from doubleweave.models.contracts import ToolSafetyContract as ToolSafetyContract
    from doubleweave.models.contracts import merge_safety as merge_safety
    from doubleweave.models.contracts import side_effect_exceeds as side_effect_exceeds
    from doubleweave.models.cost import PROVIDER_PRICES as PROVIDER_PRICES
    from doubleweave.models.cost import CostProfile as CostProfile
    from doubleweave.models.cost import CostReport as CostReport
    from doubleweave.models.cost import PriceSnap as PriceSnap
    from doubleweave.models.cost import compute_cost_report as compute_cost_report
    from doubleweave.models.cost import lookup_price as lookup_price
    from doubleweave.models.drawing import flow_to_ascii as flow_to_ascii
    from doubleweave.models.drawing import flow_to_dot as flow_to_dot
    from doubleweave.models.drawing import flow_to_mermaid as flow_to_mermaid
    from doubleweave.models.drawing import result_to_mermaid as result_to_mermaid
    from doubleweave.models.events import FlowEvent as FlowEvent
    from doubleweave.models.events import FlowEventKind as FlowEventKind
    from doubleweave.models.fingerprints import schema_dict_fingerprint as schema_dict_fingerprint
    from doubleweave.models.fingerprints import schema_fingerprint as schema_fingerprint
    from doubleweave.models.flow_files import flow_from_dict as flow_from_dict
    from doubleweave.models.flow_files import flow_from_json as flow_from_json
    from doubleweave.models.flow_files import flow_from_yaml as flow_from_yaml
    from doubleweave.models.flow_files import flow_to_dict as flow_to_dict
    from doubleweave.models.flow_files import flow_to_json as flow_to_json
    from doubleweave.models.flow_files import flow_to_yaml as flow_to_yaml
    from doubleweave.models.flow_schema import FILE_MATCH_PATTERNS as FILE_MATCH_PATTERNS
    from doubleweave.models.flow_schema import SCHEMA_DIALECT as SCHEMA_DIALECT
    from doubleweave.models.flow_schema import SCHEMA_ID as SCHEMA_ID
    from doubleweave.models.flow_schema import flow_schema_json as flow_schema_json
    from doubleweave.models.hooks import AttemptEndContext as AttemptEndContext
    from doubleweave.models.hooks import BaseMiddleware as BaseMiddleware
    from doubleweave.models.hooks import FlowEndContext as FlowEndContext
    from doubleweave.models.hooks import FlowExecutorMiddleware as FlowExecutorMiddleware
    from doubleweave.models.hooks import FlowStartContext as FlowStartContext
    from doubleweave.models.hooks import StepChunkContext as StepChunkContext
    from doubleweave.models.hooks import StepEndContext as StepEndContext
    from doubleweave.models.hooks import StepStartContext as StepStartContext
    from doubleweave.models.json_schema import JsonSchema as JsonSchema
    from doubleweave.models.log_lines import get_logger as get_logger
    from doubleweave.models.log_lines import log_step_end as log_step_end
    from doubleweave.models.log_lines import log_step_error as log_step_error
    from doubleweave.models.log_lines import log_step_start as log_step_start
    from doubleweave.models.observation import ObservedStep as ObservedStep
    from doubleweave.models.observation import ObservedTrace as ObservedTrace
    from doubleweave.models.observation import TraceRecorder as TraceRecorder
    from doubleweave.models.parse_limits import DEFAULT_PARSE_LIMITS as DEFAULT_PARSE_LIMITS
    from doubleweave.models.parse_limits import FlowParseLimits as FlowParseLimits
    from doubleweave.models.plans import ExecutionPlan as ExecutionPlan
    from doubleweave.models.plans import StepPlan as StepPlan
    from doubleweave.models.predicates import evaluate_predicate as evaluate_predicate
    from doubleweave.models.product import __version__ as __version__
    from doubleweave.models.records import ExecutionResult as ExecutionResult
    from doubleweave.models.records import StepRecord as StepRecord
    from doubleweave.models.redaction import DEFAULT_REDACT_KEYS as DEFAULT_REDACT_KEYS
    from doubleweave.models.redaction import RedactionPolicy as RedactionPolicy
    from doubleweave.models.replay import ReplayMode as ReplayMode
    from doubleweave.models.replay import ReplayResult as ReplayResult
    from doubleweave.models.replay import StepDiff as StepDiff
    from doubleweave.models.snapshots import Checkpointer as Checkpointer
    from doubleweave.models.snapshots import ExecutionSnapshot as ExecutionSnapshot
    from doubleweave.models.step_cache import StepCache as StepCache
    from doubleweave.models.step_cache import StepCacheKey as StepCacheKey
    from doubleweave.models.step_cache import compute_input_value_hash as compute_input_value_hash
    from doubleweave.models.step_index import FLOW_INPUT_STEP_INDEX as FLOW_INPUT_STEP_INDEX
    from doubleweave.models.step_index import flow_output_step_index as flow_output_step_index
    from doubleweave.models.storage import InMemoryStore as InMemoryStore
    from doubleweave.models.storage import RegistryStore as RegistryStore
    from doubleweave.models.svg import flow_to_svg as flow_to_svg
    from doubleweave.models.versions import FLOW_FORMAT_VERSION as FLOW_FORMAT_VERSION
    from doubleweave.models.versions import LEGACY_VERSION as LEGACY_VERSION
    from doubleweave.models.versions import SNAPSHOT_VERSION as SNAPSHOT_VERSION
    from doubleweave.models.versions import TRACE_SCHEMA_VERSION as TRACE_SCHEMA_VERSION
    from doubleweave.models.versions import major as major
    from doubleweave.models.versions import same_major as same_major
    from doubleweave.pages.live import LivePage as LivePage
    from doubleweave.pages.render import run_page as run_page
    from doubleweave.plugins import discover_flows as discover_flows
    from doubleweave.plugins import discover_tools as discover_tools
    from doubleweave.registry import FlowRegistry as FlowRegistry
    from doubleweave.stores.flow_directories import ReloadReport as ReloadReport
    from doubleweave.stores.flow_directories import WatchHandle as WatchHandle
    from doubleweave.stores.flow_files import FileStore as FileStore
    from doubleweave.stores.flow_files import load_flow_file as load_flow_file
    from doubleweave.stores.snapshots import FileCheckpointer as FileCheckpointer
    from doubleweave.stores.snapshots import InMemoryCheckpointer as InMemoryCheckpointer
    from doubleweave.stores.step_caches import FileStepCache as FileStepCache
    from doubleweave.stores.step_caches import InMemoryStepCache as InMemoryStepCache
    from doubleweave.stores.traces import FileTraceStore as FileTraceStore
    from doubleweave.stores.traces import InMemoryTraceStore as InMemoryTraceStore
    from doubleweave.stores.traces import TraceStore as TraceStore
    from doubleweave.stores.traces import redact_execution_result as redact_execution_result
    from doubleweave.testing.replay import FixtureStaleError as FixtureStaleError
    from doubleweave.tools import StreamingTool as StreamingTool
    from doubleweave.tools import Tool as Tool
else:

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
            return value
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
