"""Class refs, `"module:qualname"` strings, and the policy that decides which modules they may import."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, overload

from doubleweave.errors import FlowSerializationError, SchemaRefPolicyError

SchemaRefPolicy: TypeAlias = Callable[[str], bool]

_ClassT = TypeVar("_ClassT")

_policy: ContextVar[SchemaRefPolicy | None] = ContextVar("schema_ref_policy", default=None)


def set_schema_ref_policy(policy: SchemaRefPolicy | None) -> None:
    """Let only modules that `policy` accepts be imported for a class ref; None lifts the restriction.

    The policy belongs to the current context: other threads and concurrent tasks keep their own.
    """
    _policy.set(policy)


def get_schema_ref_policy() -> SchemaRefPolicy | None:
    """Return the policy of the current context; None means no restriction."""
    return _policy.get()


@contextmanager
def schema_ref_policy(policy: SchemaRefPolicy | None) -> Iterator[None]:
    """Set the policy for the duration of a `with` block; the previous one returns, also after an exception."""
    token = _policy.set(policy)
    try:
        yield
    finally:
        _policy.reset(token)


@dataclass(frozen=True, init=False)
class SchemaRefAllowlist:
    """A policy that accepts the modules named by `prefixes` and their submodules, and nothing else.

    Raises:
        TypeError: `prefixes` is one text, whose characters are hardly what is to be imported.
    """

    prefixes: tuple[str, ...]

    def __init__(self, prefixes: Sequence[str]) -> None:
        if isinstance(prefixes, str):
            raise TypeError(f"the prefixes of a SchemaRefAllowlist are a list of module names: give [{prefixes!r}]")
        object.__setattr__(self, "prefixes", tuple(prefixes))

    def __call__(self, module_path: str) -> bool:
        return any(module_path == prefix or module_path.startswith(f"{prefix}.") for prefix in self.prefixes)


def class_ref_from(cls: type) -> str:
    """Return the ref that names `cls`: `"<module>:<qualname>"`."""
    return f"{cls.__module__}:{cls.__qualname__}"


@overload
def resolve_class_ref(ref: str, *, expected_base: type[_ClassT]) -> type[_ClassT]: ...
@overload
def resolve_class_ref(ref: str, *, expected_base: None = None) -> type: ...
def resolve_class_ref(ref: str, *, expected_base: type | None = None) -> type:
    """Import the module of a class ref and return the class.

    The policy of the current context is asked before anything is imported, about identifiers with dots between them only.

    Raises:
        SchemaRefPolicyError: The policy refuses the module.
        FlowSerializationError: `ref` is malformed, cannot be imported or found, is not a class, or is not a subclass of
            `expected_base`.
    """
    module_path, colon, qualname = ref.partition(":")
    if not colon:
        raise FlowSerializationError(f"Class ref '{ref}' must be in 'module:qualname' form")
    _check_module_path(module_path, ref)
    policy = _policy.get()
    if policy is not None and not policy(module_path):
        raise SchemaRefPolicyError(module_path, ref)
    found = _walk(_import(module_path, ref), qualname, ref)
    if not isinstance(found, type):
        raise FlowSerializationError(f"Class ref '{ref}' names a {type(found).__name__}; expected a class")
    if expected_base is not None and not issubclass(found, expected_base):
        raise FlowSerializationError(f"Class ref '{ref}' is not a subclass of {expected_base.__name__}")
    return found


def _check_module_path(module_path: str, ref: str) -> None:
    # Two texts must not name one module, or a policy that refuses the one would accept the other: the importer of built-in
    # modules, for one, reads a name up to its first NUL.
    if not all(part.isidentifier() for part in module_path.split(".")):
        raise FlowSerializationError(
            f"Cannot import module '{module_path}' of class ref '{ref}': not an absolute name of identifiers and dots"
        )


def _import(module_path: str, ref: str) -> Any:
    try:
        return importlib.import_module(module_path)
    # A module's body may raise the other two, which nobody who resolves a ref should mistake for errors of their own.
    except (ImportError, KeyError, AttributeError) as error:
        raise FlowSerializationError(f"Cannot import module '{module_path}' of class ref '{ref}': {error}") from error


def _walk(module: Any, qualname: str, ref: str) -> Any:
    found = module
    for name in qualname.split("."):
        try:
            found = getattr(found, name)
        # A module that loads its attributes lazily raises ImportError or KeyError where others raise AttributeError.
        except (AttributeError, ImportError, KeyError) as error:
            raise FlowSerializationError(f"'{qualname}' of class ref '{ref}' not found") from error
    return found
