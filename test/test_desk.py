"""A desk lets nothing through that its guard has not judged: on a real desktop, with real programs and a decoy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from desktop_pad import PATIENCE_S, Pad, until
from optr.connectors.desktop.actions import Click, Focus, Hotkey, Key, Launch, Move, Point, Press, Selector, Type, Wait
from optr.connectors.desktop.demo import demo_desk
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.session import DesktopSession
from optr.connectors.desktop.x11 import X11
from optr.errors import DesktopError
from optr.sentinel.codes import GuardState
from optr.sentinel.desk_config import load_desk
from optr.sentinel.desk_guard import DeskGuard

for program in ("galculator", "mousepad"):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def desk():
    with demo_desk(1000, 700) as made:
        yield made


@pytest.fixture(autouse=True)
def _ready(desk):
    """Each test begins with a guard that knows nothing of the tests before."""
    desk.guard.begin_task("", desk.look(), desk.look().stamp_ns)
    desk.guard.counts.clear()


@pytest.fixture
def decoy(desk):
    """A window that no action may reach."""
    made = Pad(desk.session.display, (300, 200), managed=True)
    until(lambda: desk.bridge.windows.matching("pad"))
    yield made
    made.close()
    until(lambda: not desk.bridge.windows.matching("pad"))


@pytest.fixture
def calculator(desk):
    """Id of its window."""
    result = desk.execute(Launch("calculator"))
    assert result.executed, result
    window = int(result.answer)
    assert desk.execute(Wait("element", 'role=button[name="7"]', PATIENCE_S)).executed
    yield window
    desk.session._processes[-1].kill()
    until(lambda: not desk.bridge.windows.matching(str(window)))


def middle(window):
    return Point(0.5, 0.5, f"window:{window}")


def display_of(desk, window):
    return desk.finder.find(Selector("role=textbox", window)).value.strip()


def test_there_is_no_desk_without_a_guard():
    with DesktopSession(640, 480) as session, pytest.raises(DesktopError, match="without a guard does nothing"):
        Desk(session, None)


def test_what_is_allowed_is_done_and_told(desk, calculator):
    result = desk.execute(Click(Selector('role=button[name="7"]', calculator)))
    assert result.executed and not result.refused and result.details["class"] == "reversible"
    until(lambda: display_of(desk, calculator) == "7")


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda window: Click(middle(window)), "WINDOW_FORBIDDEN"),
        (lambda window: Press(middle(window)), "WINDOW_FORBIDDEN"),
        (lambda window: Type("x", middle(window)), "WINDOW_FORBIDDEN"),
        (lambda _: Type("x"), "WINDOW_FORBIDDEN"),
        (lambda _: Hotkey(("alt", "f4")), "WINDOW_FORBIDDEN"),
        (lambda _: Click(Selector("text=nowhere at all")), "NO_SUCH_PLACE"),
        (lambda _: Launch("terminal"), "PROGRAM_FORBIDDEN"),
        (lambda _: "click", "UNKNOWN_ACTION"),
        (lambda _: Click(count=-1), "BAD_ACTION"),
    ],
)
def test_what_is_refused_presses_nothing(desk, decoy, make, code):
    desk.bridge.windows.focus(decoy.id)
    decoy.clear()
    before = desk.bridge.hand.position()
    result = desk.execute(make(decoy.id))
    assert (result.executed, result.refused, result.input_ns) == (False, code, 0), result
    assert result.text
    assert desk.bridge.hand.position() == before
    decoy.window.warp_pointer(5, 5)  # what was given before this has come when it comes
    decoy._x.display.sync()
    decoy.wait(lambda noted: any(n.kind == "move" for n in noted))
    assert not decoy.of("press", "key")


def test_who_goes_past_the_guard_is_refused(desk, calculator):
    result = desk.bridge.execute(Click(middle(calculator)))
    assert (result.executed, result.input_ns, result.text) == (False, 0, "no guard has judged it")


def test_a_window_that_comes_after_the_judgement_gets_nothing(desk, calculator, monkeypatch):
    covers = []
    judge = desk.guard.judge

    def judged_and_covered(*given):
        verdict = judge(*given)
        decoy = Pad(desk.session.display, (1000, 700))
        covers.append(decoy)
        return verdict

    with monkeypatch.context() as patch:
        patch.setattr(desk.guard, "judge", judged_and_covered)
        result = desk.execute(Click(Selector('role=button[name="7"]', calculator)))
    (decoy,) = covers
    decoy.close()
    assert not result.executed and result.refused == "OBSERVATION_STALE", result
    assert f"not window {calculator} any more" in result.text
    assert not decoy.of("press", "key")
    until(lambda: display_of(desk, calculator) == "0")


def judged_then(desk, monkeypatch, happens):
    """Have something happen between the judgement and the input."""
    judge = desk.guard.judge

    def judged(*given):
        verdict = judge(*given)
        happens()
        return verdict

    monkeypatch.setattr(desk.guard, "judge", judged)


def test_a_window_that_has_moved_since_the_judgement_gets_nothing(desk, calculator, monkeypatch):
    place = desk.bridge.windows.get(calculator).rect
    x = X11(desk.session.display)

    def moves():
        x.window(calculator).configure(x=place.x + 30, y=place.y)
        x.display.sync()
        assert desk.bridge.windows.wait(lambda: desk.bridge.windows.get(calculator).rect != place, PATIENCE_S)

    with monkeypatch.context() as patch:
        judged_then(desk, patch, moves)
        result = desk.execute(Click(Selector('role=button[name="7"]', calculator)))
    x.close()
    assert (result.executed, result.refused) == (False, "OBSERVATION_STALE"), result
    assert f"window {calculator} 'galculator' is not where it was" in result.text
    assert display_of(desk, calculator) == "0"


def test_what_is_typed_ends_when_another_window_gets_the_keyboard(desk, calculator, decoy):
    assert desk.execute(Focus(str(calculator))).executed
    begun = threading.Thread(
        target=lambda: (until(lambda: len(display_of(desk, calculator)) > 3), desk.bridge.windows.focus(decoy.id))
    )
    begun.start()
    result = desk.execute(Type("1234567890" * 100))
    begun.join()
    assert (result.executed, result.refused) == (False, "OBSERVATION_STALE"), result
    assert f"not window {calculator} has the keyboard any more, but {decoy.id}" in result.text
    decoy.window.warp_pointer(5, 5)
    decoy._x.display.sync()
    decoy.wait(lambda noted: any(n.kind == "move" for n in noted))
    assert not decoy.of("key")


def test_the_window_that_was_judged_gets_the_keyboard_whatever_another_one_is_called(
    desk, calculator, decoy, monkeypatch
):
    def renamed():
        decoy.window.set_wm_name("galculator")
        decoy._x.display.sync()
        assert desk.bridge.windows.wait(lambda: len(desk.bridge.windows.matching("galculator")) == 2, PATIENCE_S)

    with monkeypatch.context() as patch:
        judged_then(desk, patch, renamed)
        result = desk.execute(Focus("galculator"))
    assert (result.executed, result.answer) == (True, str(calculator)), result
    assert desk.execute(Focus("galculator")).refused == "NO_SUCH_PLACE"


def test_what_cannot_be_undone_waits_for_a_person_wherever_it_is_named(desk):
    window = desk.execute(Launch("editor")).answer
    assert desk.execute(Type("not to be lost")).executed
    assert desk.execute(Hotkey(("ctrl", "w"))).executed
    named = Selector('role=button[name="Don\'t Save"]')
    assert desk.execute(Wait("element", named.text, PATIENCE_S)).executed
    screen = desk.bridge.screen.rect
    x, y = desk.finder.resolve(named).centre
    there = Point((x + 0.5) / screen.width, (y + 0.5) / screen.height)
    assert desk.execute(Move(there)).executed  # no harm so far
    refused = [desk.execute(action) for action in (Click(named), Click(), Press(), Click(there))]
    desk.finder.find(named)  # the question is still asked
    for result in refused:
        assert (result.refused, result.details["class"]) == ("CONFIRMATION_NEEDED", "irreversible"), result
    desk.confirm(refused[-1].details["request"])
    assert desk.execute(Click(there)).executed
    assert desk.bridge.windows.wait(lambda: not desk.bridge.windows.matching(window), PATIENCE_S)


def test_a_stop_ends_what_is_done_and_holds_until_it_is_ended(desk, calculator):
    results = []
    waits = threading.Thread(target=lambda: results.append(desk.execute(Wait("time", timeout_s=60.0))))
    waits.start()
    until(lambda: desk.bridge._began_ns and desk.bridge._one.locked())
    desk.stop("a person said so")
    waits.join(PATIENCE_S)
    assert results[0].refused == "CANCELLED"
    assert desk.guard.state is GuardState.STOPPED
    result = desk.execute(Click(Selector('role=button[name="7"]')))
    assert (result.executed, result.refused, result.text) == (False, "STOP_REQUESTED", "a person said so")
    desk.rearm()
    assert desk.execute(Click(Selector('role=button[name="7"]'))).executed


def test_a_pointer_in_a_corner_stops_until_it_is_ended(desk, calculator):
    assert desk.execute(Move(middle(calculator))).executed
    assert desk.execute(Press()).executed
    assert desk.guard.held.buttons == {"left"}
    x = X11(desk.session.display)
    x.root.warp_pointer(0, 0)
    x.display.sync()
    until(lambda: desk.bridge.stopped)
    with pytest.raises(DesktopError):  # it is still there
        desk.rearm()
    for action in (Wait("time", timeout_s=0.1), Key("7"), Click(middle(calculator))):
        result = desk.execute(action)
        assert (result.executed, result.refused) == (False, "STOP_REQUESTED"), result
        assert "corner" in result.text
    assert not desk.guard.held.buttons
    x.root.warp_pointer(500, 350)
    x.display.sync()
    x.close()
    desk.rearm()
    assert desk.execute(Click(Selector('role=button[name="7"]'))).executed


def test_a_title_that_changes_is_heard_of(desk, decoy):
    asked = []

    def named():
        if not asked:
            decoy.window.set_wm_name("renamed")
            decoy._x.display.sync()
        asked.append(1)
        return len(asked) > 1 and bool(desk.bridge.windows.matching("renamed"))

    desk.bridge.windows.wait(lambda: False, 0.3)  # what came of the window's coming is over
    assert desk.bridge.windows.wait(named, 5.0)


def test_the_command_sees_and_acts_on_a_desktop(desk, calculator):
    def run(*words):
        environment = {**os.environ, **desk.session.environment}
        command = [sys.executable, "-m", "optr.cli", "desktop", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    code, said, _ = run("look", "--window", str(calculator), "--json")
    seen = json.loads(said)
    assert code == 0 and [w["id"] for w in seen["windows"]] == [calculator]
    assert {"7", "=", "+"} <= {e["name"] for e in seen["elements"] if e["role"] == "button"}
    code, said, _ = run("look", "--window", str(calculator), "--no-elements")
    assert code == 0 and "place [px]:" in said and "x y width height" in said
    seven, leave = '{"kind": "click", "at": {"selector": "text=7"}}', '{"kind": "hotkey", "keys": ["ctrl", "q"]}'
    code, said, _ = run("do", "--json", seven, leave, seven)
    rows = [json.loads(line) for line in said.splitlines()]
    assert code == 1 and [(r["executed"], r["refused"]) for r in rows] == [(True, ""), (False, "KEY_FORBIDDEN")]
    until(lambda: display_of(desk, calculator) == "7")
    code, said, complaint = run("do", seven, '{"kind": "clack"}')
    assert code == 2 and not said and "no action 'clack'" in complaint
    assert display_of(desk, calculator) == "7"


def test_what_was_looked_at_too_long_ago_is_looked_at_again(desk, calculator, monkeypatch):
    seen, looks = desk.sight.seen, []

    def late(stamp_ns=0, found=None):
        looks.append(stamp_ns)
        return seen(stamp_ns, found)

    config = replace(desk.guard.config, freshness=replace(desk.guard.config.freshness, oldest=0.001))
    monkeypatch.setattr(desk.sight, "seen", late)
    monkeypatch.setattr(desk, "guard", DeskGuard(config))
    assert desk.execute(Click(Selector('role=button[name="7"]'))).refused == "OBSERVATION_STALE"
    assert len(looks) == 3
    assert display_of(desk, calculator) == "0"


def test_the_guard_of_the_demonstration_is_the_one_that_ships():
    shipped, changed = load_desk(), load_desk("demo")
    assert replace(changed, rules=shipped.rules) == shipped
    assert [r.name for r, other in zip(changed.rules, shipped.rules, strict=True) if r != other] == ["programs"]


@pytest.mark.parametrize("action", [Type("\t\n"), Hotkey(("tab", "space")), Hotkey(("alt", "d")), Key("enter")])
def test_keys_that_come_to_what_cannot_be_undone_wait_for_a_person(desk, action):
    cancels = action != Key("enter")
    named = ["--title=Tidy up", "--text=Well?", "--ok-label=_Delete", "--cancel-label=Keep"]
    asked = desk.session.launch(["zenity", "--question", *named, *["--default-cancel"] * cancels])
    window = Selector('role=button[name="Keep"]')
    assert desk.execute(Wait("element", window.text, PATIENCE_S)).executed
    until(lambda: (focused := desk.bridge.windows.focused()) and focused.title == "Tidy up")
    result = desk.execute(action)
    assert (result.refused, result.details["class"]) == ("CONFIRMATION_NEEDED", "irreversible"), result
    if cancels:
        assert desk.execute(Key("tab")).executed
        assert desk.execute(Hotkey(("shift", "tab"))).refused == "CONFIRMATION_NEEDED"  # it is on Delete
    assert asked.poll() is None
    assert desk.execute(Click(window)).executed
    until(lambda: asked.poll() == 1)
