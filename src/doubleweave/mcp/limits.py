"""How much a server does for those who call it."""

from dataclasses import dataclass

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What one server takes on.

    Args:
        call_seconds: How long one call may take; then its run is cancelled.
        calls_at_once: How many calls may run at the same time; the next one is refused at once, not queued.
        input_bytes: How long the arguments of one call may be, as JSON in UTF-8.
        output_bytes: The same for what it gives back. Longer ones are refused, not cut.

    Raises:
        ValueError: One of them is not above zero.
    """

    call_seconds: float = 60.0
    calls_at_once: int = 8
    input_bytes: int = MIB
    output_bytes: int = MIB

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} must be above zero, not {value!r}")
