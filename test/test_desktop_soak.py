"""Random actions on a live desktop, some hundred of them: nothing forbidden gets through, nothing hangs.

`benchmarks/desktop_soak.py` proposes 100,000.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import desktop_soak as bench

from desktop_pad import until
from optr.connectors.desktop.actions import Drag, Point, Type


def test_nothing_forbidden_gets_through():
    report = bench.soak(400, seed=11)
    assert report.good, (report.forbidden, report.examples, report.errors, report.hangs, report.held, report.alive)
    assert report.actions == 400 == sum(report.verdicts.values())
    assert report.verdicts["carried out"] > 50 and len(report.kinds) > 8
    assert {"WINDOW_FORBIDDEN", "KEY_FORBIDDEN", "BAD_ACTION"} <= {*report.verdicts}
    assert report.seen["press"] and report.seen["key"]


def test_the_witnesses_tell_what_gets_through():
    report = bench.Report()
    with bench.soak_desk() as desk:
        stage = bench.Stage(desk.session)
        windows = desk.bridge.windows
        assert windows.wait(lambda: len(windows.all()) >= len(stage.running), 30.0)

        def got(name):
            stage.judge(report)
            return any(name in what for what in report.forbidden)

        past = desk.bridge  # whoever goes past the guard
        past.helpers = type(past.helpers)()
        for name in ("decoy", "closed", "open"):
            window = windows.find(name)
            windows.focus(window.id)
            past.execute(Type("a\n"))
            until(lambda name=name: got(name))
        window = windows.find("witness")
        windows.focus(window.id)
        past.execute(Drag(tuple(Point(x, 0.6, f"window:{window.id}") for x in (0.1, 0.95)), seconds=0.1))
        until(lambda: got("the region got a move"))
        windows.focus(windows.find("Tidy up").id)
        past.execute(Type("\t\n"))
        until(lambda: got("the deleting button was pressed"))
        windows.focus(windows.find("Delete everything").id)
        past.execute(Type("\n"))
        until(lambda: got("the deleting dialog has ended"))
    assert not report.good
    assert isinstance(report.forbidden, Counter) and json.dumps(report.examples)
