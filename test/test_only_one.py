"""One of a name; and the end of its holder is seen at once."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from optr.ros.only_one import PlaceWatch, SecondNodeError, hold_place

HOLD = """
import time
from optr.ros.only_one import hold_place
place = hold_place("/x")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "99")
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_one_is_told_who_the_first_is(holder):
    with pytest.raises(SecondNodeError, match=rf"/x is taken in ROS domain 99 by process {holder.pid}; end that one"):
        hold_place("/x")
    holder.kill()
    holder.wait()
    hold_place("/x").close()


def test_a_killed_holder_is_seen_at_once(holder):
    watch = PlaceWatch("/x")
    assert not watch.lost()
    holder.kill()
    holder.wait()
    began = time.monotonic()
    assert watch.lost()
    assert time.monotonic() - began < 1.0


def test_a_place_that_nobody_ever_held_is_not_lost(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "99")
    assert not PlaceWatch("/never").lost()
