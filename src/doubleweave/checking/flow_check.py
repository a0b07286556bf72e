"""The static check of a flow: what its runs will come to, from what is declared alone."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel

from doubleweave.checking.findings import CheckReport, Notes, Place
from doubleweave.checking.fit import Level, any_of, fits, is_json
from doubleweave.checking.interfaces import Interface, Outputs, combined, is_plain, outputs_of, part_at
from doubleweave.checking.kinds import Declared, declared
from doubleweave.checking.scope import UNKNOWN, Certainty, Known, Scope, Writer
from doubleweave.checking.truth import Outlook, Value, outlook, value_of
from doubleweave.core.plan import Plan, PlannedStep, make_plan
from doubleweave.errors import DAGDefinitionError, DoubleweaveError
from doubleweave.models.flows import AnyFlow, FlowStatus
from doubleweave.models.pointers import is_pointer, parse_pointer
from doubleweave.models.refs import SchemaRefAllowlist, resolve_class_ref, schema_ref_policy
from doubleweave.models.registry import FlowRegistry
from doubleweave.models.tools import ToolBase

Given = dict[str, Known]
_END = 1 << 60
_DEEPEST = 50


def check_flow(
    flow: AnyFlow,
    tools: Mapping[str, ToolBase],
    *,
    registry: FlowRegistry | None = None,
    allowed_modules: Collection[str] = (),
) -> CheckReport:
    """Follow every value of a flow from the step that makes it to those that take it, and report what does not fit.

    Covered are: tools, sub-flows and keys that are missing; inputs, contracts and flow schemas that do not take what they are
    given, by their declared types and limits; keys that collide; predicates that fail or never hold; steps that are never
    reached; fallbacks and decision candidates that do not fit; outputs whose declared type JSON cannot hold. Not covered is
    what tools and validators of one's own do, and numbers beyond a float. A flow with no finding does not fail for a covered
    reason when it is run with JSON data that has the declared input keys and no others.

    No tool is called, and no module is imported but those under `allowed_modules`, for the class refs of the flow.

    Args:
        flow: The flow; it need not be registered.
        tools: The tools that it will run with, by name, as `executor.registered_tools` has them.
        registry: Where its sub-flows are found.
        allowed_modules: The modules, with all below them, that class refs may be resolved from.
    """
    notes = Notes()
    _FlowCheck(flow, tools, registry, SchemaRefAllowlist(tuple(allowed_modules)), notes, ()).run(None)
    return CheckReport(flow.name, notes.findings, list(notes.required_inputs))


class _FlowCheck:
    def __init__(
        self,
        flow: AnyFlow,
        tools: Mapping[str, ToolBase],
        registry: FlowRegistry | None,
        allowed: SchemaRefAllowlist,
        notes: Notes,
        outer: tuple[str, ...],
    ) -> None:
        self._flow = flow
        self._tools = tools
        self._registry = registry
        self._allowed = allowed
        self._notes = notes
        self._names = (*outer, flow.name)
        self._unreachable: set[int] = set()
        self._level_keys: dict[tuple[int, str], tuple[PlannedStep, bool]] = {}

    def run(self, given: Outputs | None) -> Outputs | None:
        """Check the flow, of which `given` is the input when it is a sub-flow; return its final context, if it has one."""
        plan = self._plan()
        if plan is None:
            return None
        start = Place(self._flow.name, -1, "input")
        if self._flow.status != FlowStatus.ACTIVE:
            status = FlowStatus(self._flow.status).value
            self._notes.add(
                Level.FAILS, "flow_status", start, f"its status is '{status}'", "Activate it or run it with force"
            )
        self._plan_of_it = plan
        self._scope = self._begin(start, given)
        self._certainty = Certainty(plan.steps)
        for step in plan.steps:
            self._step(plan, step)
        final = Outputs(self._view(_END, self._certainty.at_the_end()), self._scope.is_open(_END))
        self._end(plan, final)
        return final

    def _plan(self) -> Plan | None:
        try:
            return make_plan(self._flow)
        except DAGDefinitionError as error:
            place = Place(self._flow.name, -1, "definition")
            self._notes.add(Level.FAILS, error.reason, place, error.detail.rstrip("."), "Correct the dependencies")
            return None

    def _begin(self, place: Place, given: Outputs | None) -> Scope:
        model = self._class(self._flow.input_schema_ref, BaseModel, place, "input_schema_ref")
        if given is not None:
            if model is not None:
                self._offer(given, Interface.of(declared(model, "input")), place, "the flow's input")
            return Scope(given.keys, given.is_open)
        interface = None if model is None else Interface.of(declared(model, "raw"))
        if interface is None or not interface.is_known or interface.has_two_names or interface.invites_others:
            return Scope({}, is_open=True)
        undeclared = {key: Known((UNKNOWN,), True, is_declared=False) for key in self._flow.dynamic_params}
        keys = {key: Known((each,), key in interface.required) for key, each in interface.keys.items()}
        return Scope({**undeclared, **keys}, is_open=False)

    def _end(self, plan: Plan, final: Outputs) -> None:
        place = Place(self._flow.name, len(plan.steps), "output")
        for name in ("output_schema_ref", "context_schema_ref"):
            model = self._class(getattr(self._flow, name), BaseModel, place, name)
            if model is not None:
                self._offer(
                    final, Interface.of(declared(model, "input")), place, f"the flow's {name.split('_')[0]} schema"
                )

    def _step(self, plan: Plan, step: PlannedStep) -> None:
        place = Place(self._flow.name, step.index, step.step_id or step.name)
        if self._is_unreachable(step):
            self._unreachable.add(step.index)
            detail = "no choice of the steps before it leads to it"
            self._notes.add(Level.MAY_FAIL, "unreachable_step", place, detail, "Remove it or correct the predicates")
            return
        for ref in step.retry.retryable_errors if step.retry else ():
            self._class(ref, BaseException, place, "retryable_errors")
        outputs = self._outputs(step, place)
        if step.skips_errors and step.flow_name is None:
            outputs = Outputs({key: Known(each.types, False) for key, each in outputs.keys.items()}, outputs.is_open)
        self._note_collisions(step, place, outputs)
        self._scope.add(Writer(step.index, step.level, outputs.keys, outputs.is_open))
        if step.branches:
            self._branch(step, place)

    def _outputs(self, step: PlannedStep, place: Place) -> Outputs:
        """Check the calls of a step; return what it adds to the context."""
        if step.is_capability:
            self._notes.add(
                Level.UNPROVEN, "not_checked", place, "nothing is declared of a capability", "Make it a tool"
            )
            unknown = {key: Known((UNKNOWN,), True) for key in step.output_mapping or ()}
            return Outputs(unknown, step.output_mapping is None)
        if step.flow_name is not None:
            return self._projected(step, place, self._sub_flow(step, place), step.name)
        fallback = [step.fallback] if step.fallback else []
        found = []
        for name in (*(step.candidates or [step.name]), *fallback):
            tool = self._tools.get(name)
            if tool is None:
                self._notes.add(
                    Level.FAILS, "missing_tool", place, f"tool '{name}' is not registered", "Register it", name
                )
                continue
            found.append(self._projected(step, place, self._call(step, place, tool), name))
        return combined(found)

    def _call(self, step: PlannedStep, place: Place, tool: ToolBase) -> Outputs:
        interface = Interface.of(declared(tool.input_schema, "input"))
        given = self._inputs(step, place, interface)
        self._offer(given, interface, place, f"tool '{tool.name}'", explicit=bool(step.model.input_mapping))
        self._contract(step.model.input_contract, given, place, "input_contract")
        outputs = outputs_of(tool)
        for key, each in outputs.keys.items():
            if not all(is_plain(one) for one in each.types):
                detail = f"the output of tool '{tool.name}' cannot be written as JSON"
                fix = "Without that no snapshot or trace in a file can hold it: return plain data"
                self._notes.add(Level.MAY_FAIL, "not_serialisable", place, detail, fix, key)
        self._contract(step.model.output_contract, outputs, place, "output_contract")
        return outputs

    def _sub_flow(self, step: PlannedStep, place: Place) -> Outputs:
        fix = "Register it, and give the registry"
        if step.name in self._names:
            detail = f"'{' -> '.join((*self._names, step.name))}' never ends"
            self._notes.add(Level.FAILS, "sub_flow_cycle", place, detail, "Take one of them out", step.name)
            return Outputs({}, True)
        if self._registry is None:
            self._notes.add(
                Level.UNPROVEN, "not_checked", place, f"sub-flow '{step.name}' is not known", fix, step.name
            )
            return Outputs({}, True)
        try:
            flow = self._registry.get_flow(step.name)
        except DoubleweaveError as error:
            self._notes.add(Level.FAILS, "missing_flow", place, str(error).rstrip("."), fix, step.name)
            return Outputs({}, True)
        if len(self._names) >= _DEEPEST:
            detail = f"sub-flow '{step.name}' is nested too deeply to be looked into"
            self._notes.add(Level.UNPROVEN, "not_checked", place, detail, "Nest less deeply", step.name)
            return Outputs({}, True)
        inner = _FlowCheck(flow, self._tools, self._registry, self._allowed, self._notes, self._names)
        return inner.run(self._inputs(step, place, None)) or Outputs({}, True)

    def _inputs(self, step: PlannedStep, place: Place, taker: Interface | None) -> Outputs:
        """Return what a step hands to its tool or sub-flow; note what it cannot find."""
        mapping = step.model.input_mapping
        if not mapping:
            # The whole context is handed over, with what nobody declares of it.
            given = self._view(step.level, self._certainty.before(step), frozenset(step.depends_on))
            for key in sorted(taker.keys) if taker else ():
                if key in given and not given[key].is_declared:
                    self._note_undeclared(key, place)
                elif key not in given and taker is not None and key in taker.required:
                    given |= self._read(key, key, step, place, missing=())
            return Outputs(given, self._scope.is_open(step.level))
        found: Given = {}
        for key, source in mapping.items():
            if isinstance(source, str):
                found |= self._read(key, source, step, place)
            else:
                found[key] = Known((Declared({"const": source}, {}, "plain"),), True)
                if not is_json(source):
                    detail, fix = "the constant is not JSON, so no flow file can hold it", "Give JSON data"
                    self._notes.add(Level.MAY_FAIL, "not_serialisable", place, detail, fix, key)
        return Outputs(found, False)

    def _note_undeclared(self, key: str, place: Place) -> None:
        self._notes.required_inputs[key] = None
        detail = "nobody declares it: it has to be in the flow's input, or among outputs that are not declared"
        fix = "Give the flow an input_schema_ref, and its module in allowed_modules"
        self._notes.add(Level.UNPROVEN, "undeclared_input", place, detail, fix, key)

    def _read(self, field: str, source: str, step: PlannedStep, place: Place, missing: Any = None) -> Given:
        """Return what is known of a source under the name of the field that it is for; nothing when it is not there."""
        tokens = parse_pointer(source) if is_pointer(source) else [source]
        if not tokens:
            return {field: Known((UNKNOWN,), True)}
        known = self._known(tokens[0], step)
        if not known.is_declared:
            self._note_undeclared(tokens[0], place)
        if not known.types and missing is not None:
            return {}
        for token in tokens[1:]:
            known = part_at(known, token)
        if not known.types:
            detail, fix = (
                f"no step before writes '{source}', and the input has no such key",
                "Correct the input_mapping",
            )
            self._notes.add(Level.FAILS, "missing_key", place, detail, fix, field)
            return {}
        if not known.is_sure:
            detail = f"'{source}' may not be there: it is optional, or the step that writes it may be skipped"
            self._notes.add(Level.MAY_FAIL, "missing_key", place, detail, "Write it on every way to this step", field)
        return {field: Known(known.types, True, known.is_declared)}

    def _known(self, key: str, step: PlannedStep) -> Known:
        return self._scope.known(key, step.level, self._certainty.before(step), one_of=frozenset(step.depends_on))

    def _view(self, level: int, ran: frozenset[int], one_of: frozenset[int] = frozenset()) -> Given:
        return {key: self._scope.known(key, level, ran, one_of=one_of) for key in self._scope.keys(level)}

    def _offer(self, offered: Outputs, taker: Interface, place: Place, name: str, explicit: bool = False) -> None:
        """Note what a taker does not accept of what it is given."""
        given = offered.keys
        if not taker.is_known:
            detail = f"the schema of {name} says more than is looked into here"
            self._notes.add(Level.UNPROVEN, "not_checked", place, detail, "Test it")
            return
        two_names = taker.has_two_names and given.keys() - taker.keys.keys()
        level = Level.UNPROVEN if two_names or offered.is_open else Level.FAILS
        if offered.is_open and (taker.others is None or taker.keys.keys() - given.keys()):
            detail = f"keys that nobody declares may be there, and {name} has something to say about them"
            self._notes.add(
                Level.UNPROVEN, "undeclared_input", place, detail, "Declare what there is, or map what it takes"
            )
        for key in sorted(taker.required - given.keys()):
            detail, fix = f"{name} needs it and is not given it", "Map a value to it"
            self._notes.add(level, "missing_input", place, detail, fix, key)
        for key, known in given.items():
            if key in taker.required and not known.is_sure:
                detail = f"{name} needs it, and it may not be there"
                self._notes.add(
                    Level.MAY_FAIL, "missing_input", place, detail, "Write it on every way to this step", key
                )
            self._fit(key, known, taker, place, name, explicit)

    def _fit(self, key: str, known: Known, taker: Interface, place: Place, name: str, explicit: bool) -> None:
        wanted = taker.keys.get(key)
        if wanted is None and taker.others is None:
            level = Level.FAILS if known.is_sure and known.is_declared else Level.MAY_FAIL
            detail = f"{name} allows no such field"
            self._notes.add(level, "unknown_input", place, detail, "Map only what it takes", key)
        elif wanted is None and explicit and taker.drops_others:
            detail = f"{name} has no such field and drops it, unless it is the alias of one"
            level = Level.UNPROVEN if taker.has_two_names else Level.MAY_FAIL
            self._notes.add(level, "unknown_input", place, detail, "Correct the input_mapping", key)
        else:
            found = any_of([fits(each, wanted or taker.others or UNKNOWN) for each in known.types])
            if not known.is_declared:
                # That nothing is declared has been said.
                return
            found = found if known.is_sure else found.at_most(Level.MAY_FAIL)
            detail = f"{name}: {found.path and f'at {found.path} '}{found.reason}"
            fix = "Change the declared type on one side, or put a step between"
            self._notes.add(found.level, "type_mismatch", place, detail, fix, key)

    def _contract(self, ref: str | None, given: Outputs, place: Place, name: str) -> None:
        model = self._class(ref, BaseModel, place, name)
        if model is not None:
            self._offer(given, Interface.of(declared(model, "input")), place, f"the {name}")

    def _projected(self, step: PlannedStep, place: Place, outputs: Outputs, name: str) -> Outputs:
        """Return what the output mapping lets through."""
        if step.output_mapping is None:
            if outputs.is_open:
                detail = f"'{name}' may have outputs that are not declared, and they may take the place of others"
                fix = "Forbid additional properties in its output schema, or give an output_mapping"
                self._notes.add(Level.UNPROVEN, "undeclared_outputs", place, detail, fix)
            return outputs
        found: Given = {}
        for key, source in step.output_mapping.items():
            known = outputs.keys.get(source)
            if known is not None:
                found[key] = known
            if known is None or not known.is_sure:
                level = Level.FAILS if known is None and not outputs.is_open else Level.UNPROVEN
                level = Level.MAY_FAIL if known is not None else level
                detail = f"'{name}' {'may have' if level is not Level.FAILS else 'has'} no output '{source}'"
                self._notes.add(level, "unknown_output", place, detail, "Correct the output_mapping", key)
        return Outputs(found, False)

    def _note_collisions(self, step: PlannedStep, place: Place, outputs: Outputs) -> None:
        ran = self._certainty.before(step)
        for key, known in outputs.keys.items():
            sure = known.is_sure and step.index not in self._certainty.optional
            if self._plan_of_it.is_dag:
                other, other_sure = self._level_keys.setdefault((step.level, key), (step, sure))
                if other is not step and not self._exclude_each_other(step, other):
                    level = Level.FAILS if sure and other_sure else Level.MAY_FAIL
                    detail = f"step '{other.step_id}' of the same level writes it too"
                    self._notes.add(level, "sibling_collision", place, detail, "Rename one with output_mapping", key)
            if self._flow.on_context_collision == "error":
                before = self._scope.known(key, step.level, ran)
                if before.types:
                    level = Level.FAILS if before.is_sure and known.is_sure else Level.MAY_FAIL
                    level = level if before.is_declared else Level.UNPROVEN
                    detail = "the context has it already, and on_context_collision is 'error'"
                    self._notes.add(level, "context_collision", place, detail, "Rename it with output_mapping", key)

    def _exclude_each_other(self, one: PlannedStep, other: PlannedStep) -> bool:
        """Say whether a step before both chooses at most one of them, whenever both could run."""
        both = set(one.depends_on) & set(other.depends_on)
        return any(
            self._plan_of_it.steps[index].default_next is not None and self._decides(index, one, other)
            for index in both
        )

    def _decides(self, index: int, *dependents: PlannedStep) -> bool:
        """Say whether a step has run for certain when one of its dependents could: one that is skipped skips nobody else."""
        always = index not in self._certainty.optional
        return always or any(step.depends_on == (index,) for step in dependents)

    def _branch(self, step: PlannedStep, place: Place) -> None:
        """Check the predicates of a step, and note which of its dependents none of them leads to."""
        chosen: set[str | None] = set()
        for edge in step.branches:
            # A predicate is asked when none before it holds.
            found = self._outlook(step, edge.predicate, place, is_asked=not chosen)
            if found.truth is False:
                detail = f"the predicate {edge.predicate!r} never holds, by the types of what it reads"
                fix = "Correct it or remove the branch"
                self._notes.add(Level.MAY_FAIL, "predicate_never_holds", place, detail, fix, edge.target_step_id)
                continue
            chosen.add(edge.target_step_id)
            if found.truth is True:
                break
        else:
            chosen.add(step.default_next)
        if None not in chosen:
            others = [index for name, index in step.dependents.items() if name not in chosen]
            steps = self._plan_of_it.steps
            self._unreachable.update(index for index in others if self._decides(step.index, steps[index]))

    def _outlook(self, step: PlannedStep, predicate: str, place: Place, is_asked: bool) -> Outlook:
        ran = self._certainty.before(step) | {step.index}

        def look_up(name: str) -> Value:
            known = self._scope.known(name, step.level, ran, siblings=step.index + 1)
            if not known.types:
                return Value(trouble=((Level.FAILS, f"'{name}' is not in the context"),))
            if not known.is_declared:
                self._note_undeclared(name, place)
            value = value_of(list(known.types))
            sure = () if known.is_sure else ((Level.MAY_FAIL, f"'{name}' may not be in the context"),)
            return Value(value.kinds, value.constants, value.schemas, sure)

        found = outlook(predicate, look_up)
        for level, text in found.trouble:
            level = level if is_asked else min(level, Level.MAY_FAIL)
            detail, fix = f"the predicate {predicate!r}: {text}", "Declare the types that it reads, or correct it"
            self._notes.add(level, "predicate_fails", place, detail, fix)
        return found

    def _is_unreachable(self, step: PlannedStep) -> bool:
        needed = step.depends_on
        return step.index in self._unreachable or (bool(needed) and self._unreachable.issuperset(needed))

    def _class(self, ref: str | None, base: type, place: Place, field: str) -> Any:
        """Return the class of a ref, when its module is allowed."""
        if ref is None:
            return None
        module, colon, _ = ref.partition(":")
        if colon and module != "builtins" and not self._allowed(module):
            detail, fix = (
                f"the module of '{ref}' is not allowed, so it was not looked at",
                f"Add '{module}' to allowed_modules",
            )
            self._notes.add(Level.UNPROVEN, "class_ref", place, detail, fix, field)
            return None
        try:
            with schema_ref_policy(None):
                return resolve_class_ref(ref, expected_base=base)
        except (Exception, SystemExit) as error:
            self._notes.add(Level.FAILS, "class_ref", place, str(error).rstrip("."), "Correct the ref", field)
            return None
