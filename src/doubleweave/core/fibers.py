"""Lives that run side by side: outcomes in, effects out. Knows nothing of threads or loops."""

from collections import deque
from typing import Any

from doubleweave.core.effects import JOIN, Fork, Life


class Fiber:
    """One life among others, with the ended children that it has not yet joined."""

    __slots__ = ("children", "closed", "fibers", "joining", "life", "parent", "tag")

    def __init__(self, fibers: "Fibers", life: Life[Any], parent: "Fiber | None", tag: int) -> None:
        self.fibers = fibers
        self.life = life
        self.parent = parent
        self.tag = tag
        self.children: list[tuple[int, Any, BaseException | None]] = []
        self.joining = False
        self.closed = False

    def close(self) -> None:
        """End the life where it stands; its own clean-up runs now, and what it waits for is to be abandoned."""
        if not self.closed:
            self.closed = True
            self.fibers.abandoned.append(self)
            self.life.close()


class Fibers:
    """The lives of one run: the first one, and those that it forks.

    The lane performs what `next_request` gives, reports each outcome through `resume`, and gives up on every fiber in
    `abandoned`. Lives are continued in the order in which they became able to, so that a run takes the same course each time.
    """

    def __init__(self, life: Life[Any]) -> None:
        self.abandoned: list[Fiber] = []
        self.ended = False
        self._root = Fiber(self, life, None, 0)
        self._value: Any = None
        self._error: BaseException | None = None
        self._ready: deque[tuple[Fiber, Any, BaseException | None]] = deque([(self._root, None, None)])

    @property
    def ready(self) -> bool:
        """Whether a life can go on."""
        return bool(self._ready)

    def next_request(self) -> tuple[Fiber, Any] | None:
        """Continue lives until one wants something of the lane; None when all of them wait, or the first one has ended."""
        ready = self._ready
        while ready and not self.ended:
            fiber, value, error = ready.popleft()
            if fiber.closed:
                continue
            try:
                effect = fiber.life.send(value) if error is None else fiber.life.throw(error)
            except StopIteration as stop:
                self._end(fiber, stop.value, None)
                continue
            except BaseException as raised:
                self._end(fiber, None, raised)
                continue
            while type(effect) is Fork:
                child = effect.running[effect.tag] = Fiber(self, effect.life, fiber, effect.tag)
                ready.append((fiber, None, None))
                fiber, effect = child, effect.effect
            if effect is not JOIN:
                return fiber, effect
            fiber.joining = not fiber.children
            if fiber.children:
                self._join(fiber)
        return None

    def resume(self, fiber: Fiber, value: Any, error: BaseException | None) -> None:
        """Tell a fiber the outcome of its effect."""
        self._ready.append((fiber, value, error))

    def interrupt(self, error: BaseException) -> None:
        """Throw `error` into the root life, which ends every other one; raise it when the root has ended before."""
        if self.ended:
            raise error
        self._ready.clear()
        self._ready.append((self._root, None, error))
        self.next_request()
        if not self.ended:
            raise RuntimeError("a run went on after it was interrupted")

    def result(self) -> Any:
        """Return what the root life has returned, or raise what it has raised."""
        if self._error is not None:
            raise self._error
        return self._value

    def _join(self, fiber: Fiber) -> None:
        ended, fiber.children = fiber.children, []
        self._ready.append((fiber, ended, None))

    def _end(self, fiber: Fiber, value: Any, error: BaseException | None) -> None:
        fiber.closed = True
        parent = fiber.parent
        if parent is None:
            self.ended, self._value, self._error = True, value, error
            return
        parent.children.append((fiber.tag, value, error))
        if parent.joining:
            parent.joining = False
            self._join(parent)
