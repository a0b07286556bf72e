"""What a run asks of the lane that drives it.

A run, and each of its steps, is a plain generator (a *life*): it decides, yields one of the effects below when something
has to be called or waited for, and is sent the outcome, or has the error thrown in. So every decision is written once,
and a lane only performs effects.
"""

from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

Life: TypeAlias = Generator[Any, Any, T]
"""A generator that yields effects and returns a `T`."""


class Lane(Protocol):
    """How a lane calls tools.

    Both methods call the tool, as far as that goes without waiting, in a copy of the context, and return what the tool's
    function returned; or, when the call has to wait for something, the `CallTool` that the run is to yield as its next
    effect, and whose outcome this will be.
    """

    def call_alone(self, tool: Any, argument: Any, context: Context) -> Any:
        """Call a tool for a run beside whose present step no other one runs."""

    def call_beside(self, tool: Any, argument: Any, context: Context) -> Any:
        """Call a tool while others may be running."""


LifeOn: TypeAlias = Callable[[Lane], Life[T]]
"""Makes a life that a lane is to drive."""


class CallTool:
    """Call a tool with its validated input; the outcome is what its function returned.

    `begun` is what a lane has of a call that it has begun already.
    """

    __slots__ = ("argument", "begun", "context", "tool")

    def __init__(self, tool: Any, argument: Any, context: Context, begun: Any = None) -> None:
        self.tool = tool
        self.argument = argument
        self.context = context
        self.begun = begun


class Invoke:
    """Call a function of the user's, plain or awaitable; the outcome is its result.

    Args:
        function, arguments: What to call.
        context: The context variables of the run; the call sees a copy of them.
        thread_name: The name that a worker thread bears meanwhile.
        timeout: Seconds to wait before `InvokeExpired` is the outcome; None for no limit.
        on_caller: A plain function wants the thread that drives the run, where the lane's threads may block.
        finish: The call is not left behind when the run is cancelled: a few seconds are given to it to end.
    """

    __slots__ = ("arguments", "context", "finish", "function", "on_caller", "thread_name", "timeout")

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        context: Context,
        thread_name: str,
        timeout: float | None = None,
        on_caller: bool = True,
        finish: bool = False,
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.context = context
        self.thread_name = thread_name
        self.timeout = timeout
        self.on_caller = on_caller
        self.finish = finish


class InvokeExpired(Exception):
    """The time limit of an `Invoke` is over; what was called may still run and its result will be dropped."""


class Pause:
    """Wait for a number of seconds greater than zero."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class OpenStream:
    """Start a streaming tool; the outcome is a stream, to be read with `NextChunk` and given up with its method `cancel`.

    The lane also puts it into `stream`: a life may be closed before it has the outcome.
    """

    __slots__ = ("context", "inputs", "stream", "tool")

    def __init__(self, tool: Any, inputs: dict[str, Any], context: Context) -> None:
        self.tool = tool
        self.inputs = inputs
        self.context = context
        self.stream: Any = None


class NextChunk:
    """Wait for the next chunk of a stream; the outcome is the chunk, or None at the end."""

    __slots__ = ("stream",)

    def __init__(self, stream: Any) -> None:
        self.stream = stream


class Fork:
    """Let a life that has begun, and yielded `effect`, go on beside the present one.

    Its `Fiber` is in `running`, under its tag, before anything else happens: who is ended at this point can end it too.
    """

    __slots__ = ("effect", "life", "running", "tag")

    def __init__(self, life: Life[Any], tag: int, effect: Any, running: dict[int, Any]) -> None:
        self.life = life
        self.tag = tag
        self.effect = effect
        self.running = running


JOIN: Any = object()
"""Wait until forked lives have ended; the outcome is a list of `(tag, value, error)`, in the order of their ends."""


class Carried(RuntimeError):
    """Takes a `StopIteration` out of a coroutine or generator, which cannot let one out as it is."""

    def __init__(self, error: StopIteration) -> None:
        super().__init__("coroutine raised StopIteration")
        self.error = error


def unwrapped(error: BaseException) -> BaseException:
    """Return the error that has been carried, or `error` itself."""
    return error.error if type(error) is Carried else error
