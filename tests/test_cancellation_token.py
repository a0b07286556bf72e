"""The cancellation token."""

import threading

import pytest

from doubleweave.models.cancellation import CancellationToken


def test_a_new_token_is_not_cancelled() -> None:
    assert CancellationToken().is_cancelled is False


def test_cancel_may_be_called_again() -> None:
    token = CancellationToken()
    token.cancel()
    token.cancel()
    assert token.is_cancelled is True


def test_tokens_are_independent() -> None:
    token, other = CancellationToken(), CancellationToken()
    token.cancel()
    assert other.is_cancelled is False


def test_a_token_cancelled_in_one_thread_is_cancelled_in_all() -> None:
    token = CancellationToken()
    thread = threading.Thread(target=token.cancel)
    thread.start()
    thread.join()
    assert token.is_cancelled is True


def test_the_state_cannot_be_assigned() -> None:
    token = CancellationToken()
    with pytest.raises(AttributeError):
        token.is_cancelled = True  # type: ignore[misc]
