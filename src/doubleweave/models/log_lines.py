"""The library's loggers and the log lines of a step."""

import logging
from typing import Any

from doubleweave.models.redaction import RedactionPolicy


def get_logger(name: str) -> logging.Logger:
    """Return the logger of that full name, as it is: no level, no handler."""
    return logging.getLogger(name)


def log_step_start(
    logger: logging.Logger,
    step_index: int,
    tool_name: str,
    inputs: dict[str, Any],
    *,
    redaction: RedactionPolicy | None = None,
) -> None:
    """Log at INFO that a step starts, with its redacted inputs. Costs nothing more when INFO is disabled."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("Step %d START | tool=%s | inputs=%s", step_index, tool_name, _redacted(inputs, redaction))


def log_step_end(
    logger: logging.Logger,
    step_index: int,
    tool_name: str,
    outputs: dict[str, Any],
    *,
    redaction: RedactionPolicy | None = None,
) -> None:
    """Log at INFO that a step has ended, with its redacted outputs. Costs nothing more when INFO is disabled."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("Step %d END   | tool=%s | outputs=%s", step_index, tool_name, _redacted(outputs, redaction))


def log_step_error(logger: logging.Logger, step_index: int, tool_name: str, error: BaseException) -> None:
    """Log at ERROR that a step has failed, with the error's class name and text."""
    logger.error("Step %d ERROR | tool=%s | error=%s: %s", step_index, tool_name, type(error).__name__, error)


def _redacted(data: dict[str, Any], redaction: RedactionPolicy | None) -> dict[str, Any]:
    return data if redaction is None else redaction.redact(data)


def text_of(error: BaseException) -> str:
    """Return `str(error)` as text that UTF-8 can hold, or a stand-in when the error cannot even say what it is."""
    try:
        return str(error).encode(errors="backslashreplace").decode()
    except Exception:
        return f"<{type(error).__name__} without readable text>"
