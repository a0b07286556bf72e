"""Lives that run side by side: outcomes in, effects out. Knows nothing of threads or loops."""

from collections import deque
from typing import Any

from doubleweave.core.effects import Fork, Join, Life


class Fiber:
    """One life among others, with the ended children that it has not yet joined."""

    __slots__ = ("children", "closed", "fibers", "joining", "life", "parent", "tag")

    def __init__(self, fibers: "Fibers", life: Life[Any], parent: "Fiber | None", tag: int) -> None:
        self.fibers = fibers
        self.life = life
        self.parent = parent
        self.tag = tag
        self.children: deque[tuple[int, Any, BaseException | None]] = deque()
        self.joining = False
        self.closed = False

    def close(self) -> None:
        """End the life where it stands; its own clean-up runs now, and what it waits for is to be abandoned."""
        if not self.closed:
            self.closed = True
            self.fibers.abandoned.append(self)
            self.life.close()


class Fibers:
    """The lives of one run.

    The lane performs what it finds in `requested`, reports each outcome through `resume`, and gives up on every fiber in
    `abandoned`. Lives are continued in the order in which they became able to, so that a run takes the same course each time.
    """

    def __init__(self, life: Life[Any]) -> None:
        self.root = Fiber(self, life, None, 0)
        self.requested: deque[tuple[Fiber, Any]] = deque()
        self.abandoned: list[Fiber] = []
        self.ended = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._ready: deque[tuple[Fiber, Any, BaseException | None]] = deque()

    def begin(self, effect: Any) -> None:
        """Take over a root life that has just yielded `effect`."""
        self._take(self.root, effect)
        self._run()

    def resume(self, fiber: Fiber, value: Any, error: BaseException | None) -> None:
        """Tell a fiber the outcome of its effect and run everything that can run."""
        self._ready.append((fiber, value, error))
        self._run()

    def interrupt(self, error: BaseException) -> None:
        """Throw `error` into the root life, which ends every other one."""
        self._ready.clear()
        self.requested.clear()
        self._continue(self.root, None, error)
        if not self.ended:
            raise RuntimeError("a run went on after it was interrupted")

    def _run(self) -> None:
        while self._ready and not self.ended:
            self._continue(*self._ready.popleft())

    def _continue(self, fiber: Fiber, value: Any, error: BaseException | None) -> None:
        if fiber.closed:
            return
        try:
            effect = fiber.life.send(value) if error is None else fiber.life.throw(error)
        except StopIteration as stop:
            self._end(fiber, stop.value, None)
        except BaseException as raised:
            self._end(fiber, None, raised)
        else:
            self._take(fiber, effect)

    def _take(self, fiber: Fiber, effect: Any) -> None:
        if type(effect) is Fork:
            child = Fiber(self, effect.life, fiber, effect.tag)
            self._ready.append((child, None, None))
            self._ready.append((fiber, child, None))
        elif type(effect) is not Join:
            self.requested.append((fiber, effect))
        elif fiber.children:
            self._ready.append((fiber, fiber.children.popleft(), None))
        else:
            fiber.joining = True

    def _end(self, fiber: Fiber, value: Any, error: BaseException | None) -> None:
        fiber.closed = True
        parent = fiber.parent
        if parent is None:
            self.ended, self.value, self.error = True, value, error
            return
        parent.children.append((fiber.tag, value, error))
        if parent.joining:
            parent.joining = False
            self._ready.append((parent, parent.children.popleft(), None))
