"""Signals in the process that receives them."""

import signal

import pytest

from cifar_exp.signals import Interrupted, stop_request


def test_the_first_signal_is_recorded_and_the_second_interrupts() -> None:
    with stop_request() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.signals == [signal.SIGTERM]
        with pytest.raises(Interrupted, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_nohup_ignores_is_still_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_request() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert stop.signals == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_previous_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_request():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
