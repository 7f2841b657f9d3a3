"""What the sentinel of a desktop sends is what it has judged; and who may act is decided before the guard looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from desk_actions import actions
from optr.connectors.desktop import actions as a
from optr.connectors.desktop.messages import action_fields
from optr.connectors.desktop.seen import Element, Picture, Window
from optr.connectors.desktop.sight import selectors
from optr.connectors.desktop.view import DeskView
from optr.errors import DesktopError
from optr.ros.convert import time_to_msg
from optr.ros.desk_convert import command_to_msg, picture_to_msg, to_msg, verdict_of, verdict_to_msg
from optr.sentinel.codes import Code, GuardState, Outcome
from optr.sentinel.desk_config import load_desk
from optr.sentinel.desk_guard import DeskGuard, DeskVerdict
from optr.sentinel.desk_watch import DeskWatch
from optr.sentinel.rule import Finding
from optr_interfaces.msg import DesktopAction, DesktopCommand

SAVE = Element("button", "Save", "", a.Rect(10, 20, 30, 40), ("enabled",), ("click",), window=7, reference="x/1")
WINDOWS = tuple(
    Window(n, f"w{n}", ("A", "a"), 1, a.Rect(0, 0, 9, 9), a.Rect(0, 0, 9, 9), n == 9, n, True, n, a.Rect(0, 0, 9, 9))
    for n in (7, 9)
)
STAMP = time_to_msg(12 * 10**9 + 34)


def command(action: Any, verdict: DeskVerdict, window: int = 0) -> DesktopCommand:
    view = DeskView(a.Rect(0, 0, 100, 100), WINDOWS, found={s: SAVE for s in selectors(action)})
    return command_to_msg(to_msg(DesktopAction, action_fields(action)), verdict, view, window, STAMP)


@settings(max_examples=200, deadline=None)
@given(actions)
def test_what_was_judged_arrives_with_all_that_it_rests_on(action: a.DesktopAction):
    pixels = (((3, 4), 7), ((5, 6), 0))
    verdict = DeskVerdict(action, Outcome.ALLOWED, None, a.ActionClass.REVERSIBLE, "", pixels, 9)
    msg = command(action, verdict, window=7 if isinstance(action, a.Focus) else 0)
    read, found, windows = verdict_of(msg)
    assert read.action == (a.Focus("7") if isinstance(action, a.Focus) else action)
    assert (read.allowed, read.reach, read.pixels, read.keyboard) == (True, verdict.reach, pixels, 9)
    assert found == {s: SAVE for s in selectors(action)}
    assert windows == WINDOWS


def spoiled(**changes: Any) -> DesktopCommand:
    click = a.Click(a.Selector("text=Save"))
    msg = command(click, DeskVerdict(click, Outcome.ALLOWED, pixels=(((3, 4), 7),)))
    for name, value in changes.items():
        setattr(msg, name, value)
    return msg


@pytest.mark.parametrize(
    ("msg", "said"),
    [
        (DesktopCommand(), "without an action"),
        (spoiled(elements=[]), "does not tell what lies at each of its places"),
        (spoiled(windows=[]), "does not tell where window 7 was"),
        (spoiled(at_x=[]), "does not tell what lies at each of its places"),
        (spoiled(elements=[type(spoiled().elements[0])()]), "does not tell what text=Save means"),
        (command(a.Focus("x"), DeskVerdict(a.Focus("x"), Outcome.ALLOWED)), "does not tell which window"),
    ],
)
def test_a_command_that_leaves_something_open_is_none(msg, said):
    with pytest.raises(DesktopError, match=said):
        verdict_of(msg)


def test_a_verdict_names_the_request_that_a_person_can_confirm():
    proposed = DesktopAction(operator_id="me", sequence=3)
    asks = Finding(Code.CONFIRMATION_NEEDED, "a person has to confirm it")
    msg = verdict_to_msg(proposed, DeskVerdict(a.Done(), Outcome.REFUSED, asks, request="abc"), STAMP)
    assert (msg.operator_id, msg.sequence, msg.outcome, msg.header.stamp) == ("me", 3, 2, STAMP)
    assert (msg.codes, msg.subjects, msg.text) == (["CONFIRMATION_NEEDED"], ["abc"], "a person has to confirm it")
    assert not verdict_to_msg(proposed, DeskVerdict(a.Done(), Outcome.ALLOWED), STAMP).codes


def test_a_picture_is_told_as_it_is():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    msg = picture_to_msg(Picture(pixels, a.Rect(0, 0, 4, 2), 5), "window:7", STAMP)
    assert (msg.width, msg.height, msg.step, msg.encoding) == (4, 2, 12, "rgb8")
    assert (msg.header.frame_id, msg.header.stamp, bytes(msg.data)) == ("window:7", STAMP, bytes(range(24)))


def test_one_operator_acts_and_nobody_while_something_holds():
    watch = DeskWatch(DeskGuard(load_desk()))
    assert watch.against("me").code == Code.WRONG_AUTHORITY and "nobody has it" in watch.against("me").text
    assert (watch.state, watch.reason.code) == (GuardState.HOLDING, Code.NO_ACTION)
    assert watch.set_authority("me") == "" and watch.authority == "me"
    assert watch.against("me") is None and watch.state is GuardState.READY
    assert "it is with me" in watch.against("you").text
    watch.inhibit(Code.RECORDER_LOST, "gone")
    assert watch.against("me").code == Code.RECORDER_LOST and watch.state is GuardState.HOLDING
    watch.stop("enough")
    assert watch.against("me").text == "enough" and watch.state is GuardState.STOPPED
    assert watch.refused(None, watch.against("me")).outcome is Outcome.STOPPED
    watch.guard.rearm()
    assert watch.against("me").code == Code.RECORDER_LOST, "a stop that ends leaves the rest"
    assert watch.refused(None, watch.against("me")).outcome is Outcome.REFUSED
    watch.release(Code.RECORDER_LOST)
    assert watch.state is GuardState.READY
    watch.doing = ("me", 4)
    assert watch.busy().text == "action 4 of me is still being carried out"
    assert watch.guard.counts == {Outcome.STOPPED: 1, Outcome.REFUSED: 1}
