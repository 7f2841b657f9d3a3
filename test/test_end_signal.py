"""What a signal sets: at any moment, as often as it comes."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from optr.end_signal import EndSignal


@pytest.fixture
def told():
    before = signal.getsignal(signal.SIGUSR1)
    yield EndSignal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def test_a_storm_of_signals_ends_the_wait(told):
    """Each may come while the handler of the one before is at work; with an Event some of these wait for ever."""
    storm = threading.Thread(target=lambda: [os.kill(os.getpid(), signal.SIGUSR1) for _ in range(2000)])
    storm.start()
    while not told.wait(0.01):
        pass
    storm.join()
    assert told.is_set() and told.wait() and told.wait(0.0)


def test_without_one_it_waits_as_long_as_it_is_told(told):
    assert not told.wait(0.01) and not told.is_set()


def test_all_who_wait_are_told():
    told, seen = EndSignal(), []
    waiting = [threading.Thread(target=lambda: seen.append(told.wait())) for _ in range(3)]
    for thread in waiting:
        thread.start()
    told.set()
    for thread in waiting:
        thread.join()
    assert seen == [True] * 3
