"""A desktop in the graph as it runs: real processes, real X, real programs; and what happens when somebody dies."""

from __future__ import annotations

import shutil

import pytest

from desk_graph import DeskGraph, DeskWatcher
from desktop_pad import Pad
from graph import fresh_domain
from optr.connectors.desktop.actions import Click, Point

for program in ("Xvfb", "openbox", "mousepad"):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    fresh_domain()
    watch = DeskWatcher()
    with DeskGraph(tmp_path_factory.mktemp("desk"), watch) as running:
        running.seat.wait_ready()
        yield running
    watch.close()


@pytest.fixture
def seat(graph):
    graph.seat.wait_ready()
    return graph.seat


@pytest.fixture
def pad(seat):
    """A window of ours that is allowed."""
    made = Pad(seat.state.display, (400, 300))
    seat.watch.until(lambda: [w for w in seat.state.windows if w.id == made.id], 10, "the pad in the state")
    yield made
    made.close()


def test_a_click_goes_through_the_graph(seat, pad):
    result = seat.do(Click(Point(0.5, 0.5, f"window:{pad.id}")))
    assert result.executed and result.at == (200, 150), result
    (press,) = pad.wait(lambda noted: any(n.kind == "press" for n in noted)) and pad.of("press")
    assert press.at == (200, 150)
