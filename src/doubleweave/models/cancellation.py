"""Asking a run to stop."""


class CancellationToken:
    """A request to stop, given to a run and heeded at its next step boundary.

    The state is one boolean that only ever goes from false to true. Assigning it is a single atomic store and reading
    it a single load, so there is nothing a lock could protect: any thread, task or signal handler may call
    :meth:`cancel`, and a run sees the request at the latest at the boundary after the one it is checking.
    """

    __slots__ = ("_cancelled",)

    def __init__(self) -> None:
        self._cancelled = False

    def cancel(self) -> None:
        """Request the stop. Further calls change nothing."""
        self._cancelled = True

    @property
    def is_cancelled(self) -> bool:
        """Whether :meth:`cancel` has been called."""
        return self._cancelled


class LinkedToken(CancellationToken):
    """A token that also counts as cancelled when another one is."""

    __slots__ = ("_other",)

    def __init__(self, other: CancellationToken | None) -> None:
        super().__init__()
        self._other = other

    @property
    def is_cancelled(self) -> bool:
        """Whether this token or the other one has been cancelled."""
        return self._cancelled or (self._other is not None and self._other.is_cancelled)
