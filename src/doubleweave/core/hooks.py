"""Which middleware methods a run calls, and what happens when one fails."""

import logging
from collections.abc import Callable
from typing import Any

from doubleweave.models.hooks import BaseMiddleware
from doubleweave.models.product import PRODUCT

_logger = logging.getLogger(f"{PRODUCT}.middleware")

Hook = tuple[Callable[[Any], Any], str]


class Hooks:
    """The hook methods of a chain of middleware, looked up once a run.

    Each attribute is a tuple; where it is empty nobody listens and the hook's context need not be built.
    """

    __slots__ = ("attempt_end", "flow_end", "flow_start", "step_chunk", "step_end", "step_start")

    def __init__(self, chain: tuple[Any, ...]) -> None:
        self.flow_start = _listeners(chain, "on_flow_start")
        self.step_start = _listeners(chain, "on_step_start")
        self.step_chunk = _listeners(chain, "on_step_chunk")
        self.attempt_end = _listeners(chain, "on_attempt_end")
        self.step_end = _listeners(chain, "on_step_end")
        self.flow_end = _listeners(chain, "on_flow_end")


def hooks_of(middleware: tuple[Any, ...]) -> Hooks:
    """Return the hook methods of a chain of middleware."""
    return Hooks(middleware) if middleware else _NOBODY


def call_hooks(listeners: tuple[Hook, ...], payload: Any) -> None:
    """Call every listener, whatever the others do: an `Exception` is logged, anything else raised once all are called."""
    for position, (method, label) in enumerate(listeners, start=1):
        try:
            method(payload)
        except Exception:
            _logger.warning("Middleware hook %s failed", label, exc_info=True)
        except BaseException:
            call_hooks(listeners[position:], payload)
            raise


def _listeners(chain: tuple[Any, ...], hook: str) -> tuple[Hook, ...]:
    no_op = getattr(BaseMiddleware, hook)
    return tuple(
        (method, f"{hook} of {type(item).__name__}")
        for item in chain
        if (method := getattr(item, hook, None)) is not None and getattr(method, "__func__", None) is not no_op
    )


_NOBODY = Hooks(())
