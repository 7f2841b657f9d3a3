"""What was recorded is done again on what is there now: by selector, element, looks or part of the window."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from desktop_pad import PATIENCE_S, until
from optr.connectors.desktop.actions import Click, Hotkey, Key, Launch, Point, Rect, Selector, Type, Wait
from optr.connectors.desktop.demo import demo_desk
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.seen import Element, Window
from optr.connectors.desktop.session import DesktopSession
from optr.desk_episodes.episode import Anchor, DeskEpisode, DeskStep
from optr.desk_episodes.places_again import selector_of, share_of
from optr.desk_episodes.recorder import DeskRecorder
from optr.desk_episodes.replay import Course, DeskReplay, course_of
from optr.desk_episodes.script import load_text, script_of
from optr.desk_episodes.windows_again import WindowsAgain
from optr.errors import DesktopError, EpisodeError
from optr.sentinel.desk_config import load_desk
from optr.sentinel.desk_guard import DeskGuard

for program in ("galculator", "mousepad"):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed", allow_module_level=True)

SEVEN = 'role=button[name="7"]'


@pytest.fixture(scope="module")
def desk():
    with demo_desk(1000, 700) as made:
        yield made


@pytest.fixture
def calculator(desk):
    desk.guard.begin_task("", desk.look(), desk.look().stamp_ns)
    window = launched(desk)
    yield window
    end_programs(desk)


def launched(desk):
    result = desk.execute(Launch("calculator"))
    assert desk.execute(Wait("element", SEVEN, PATIENCE_S)).executed
    return int(result.answer)


def end_programs(desk):
    """Only those that tests start: others have no window of a calculator."""
    desk.session._processes[-1].kill()
    until(lambda: not desk.bridge.windows.matching("galculator"))


def held(desk):
    window = desk.bridge.windows.find("galculator")
    return desk.finder.find(Selector("role=textbox", window.id)).value.strip()


def elsewhere(desk, window, **size):
    before = desk.bridge.windows.get(window).rect
    desk.bridge.windows.place(
        window, Rect(600, 300, size.get("width", before.width), size.get("height", before.height))
    )
    after = desk.bridge.windows.get(window).rect
    assert (after.x, after.y) != (before.x, before.y)


def part_of(desk, window, selector):
    """The place of an element as a part of its window."""
    x, y = desk.finder.resolve(Selector(selector, window)).centre
    rect = desk.bridge.windows.get(window).rect
    return Point((x + 0.5 - rect.x) / rect.width, (y + 0.5 - rect.y) / rect.height, f"window:{window}")


def recorded(desk, folder, *actions):
    with DeskRecorder(desk, folder):
        for action in actions:
            assert desk.execute(action).executed, action
    return DeskEpisode(folder)


@pytest.mark.parametrize("how", ["element", "image", "window"])
def test_a_place_is_found_again_in_a_window_that_was_moved(desk, calculator, tmp_path, how):
    episode = recorded(desk, tmp_path / "bag", Click(part_of(desk, calculator, SEVEN)))
    course = course_of(episode)
    if how != "element":
        course = replace(course, steps=tuple(without_elements(s) for s in course.steps))
    if how == "window":
        course = replace(course, patches={})
    elsewhere(desk, calculator)
    rows = DeskReplay(desk, course).run()
    assert [(r.how, r.executed, r.effect) for r in rows] == [(how, True, "confirmed")]
    until(lambda: held(desk) == "77")


def test_a_place_in_a_large_element_is_met_where_it_was(desk, calculator, tmp_path):
    """And not in its middle, in whatever window it is then; as a script says it, too."""
    desk.bridge.windows.place(calculator, Rect(20, 60, 900, 500))
    until(lambda: desk.finder.find(Selector(SEVEN, calculator)).rect.width > 64)
    box = desk.finder.find(Selector(SEVEN, calculator)).rect
    rect = desk.bridge.windows.get(calculator).rect
    at = (box.x + 8.5 - rect.x) / rect.width, (box.y + 6.5 - rect.y) / rect.height
    episode = recorded(desk, tmp_path / "bag", Click(Point(*at, f"window:{calculator}")))
    desk.bridge.windows.place(calculator, Rect(70, 130, 900, 500))
    now = desk.finder.find(Selector(SEVEN, calculator)).rect
    course = course_of(episode)
    for again, how in ((course, "element"), (load_text(script_of(course), Path("script")), "selector")):
        rows = DeskReplay(desk, again).run()
        assert [(r.how, r.executed) for r in rows] == [(how, True)], rows
        x, y = desk.bridge.hand.position()
        assert abs(x - now.x - 8) <= 2 and abs(y - now.y - 6) <= 2, (x, y, now)
    until(lambda: held(desk) == "777")


def without_elements(step):
    return replace(step, anchors=tuple(replace(n, element=None) for n in step.anchors))


def test_it_survives_another_window_and_another_size(desk, calculator, tmp_path):
    actions = [Click(Selector(f'role=button[name="{k}"]', calculator)) for k in ("1", "5", "+", "2", "7", "=")]
    episode = recorded(desk, tmp_path / "bag", *actions, Wait("still", timeout_s=5.0, frame=f"window:{calculator}"))
    assert held(desk) == "42"
    first = desk.session._processes[-1]
    window = int(desk.execute(Launch("calculator")).answer)
    first.kill()
    until(lambda: not desk.bridge.windows.matching(str(calculator)))
    assert desk.execute(Wait("element", SEVEN, PATIENCE_S)).executed
    assert window != calculator
    elsewhere(desk, window, width=390, height=380)
    rows = DeskReplay(desk, course_of(episode)).run()
    assert all(r.executed for r in rows) and len(rows) == 7, rows
    until(lambda: held(desk) == "42")


def test_what_comes_late_is_waited_for(desk, calculator, tmp_path):
    """The window is not there when the replay begins."""
    import threading

    episode = recorded(desk, tmp_path / "bag", Click(Selector(SEVEN, calculator)))
    end_programs(desk)
    assert not desk.bridge.windows.matching("galculator")
    late = threading.Timer(1.0, lambda: desk.session.launch(["galculator"]))
    late.start()
    rows = DeskReplay(desk, course_of(episode)).run()
    late.join()
    assert [r.executed for r in rows] == [True], rows
    until(lambda: held(desk) == "7")


def test_what_does_not_come_ends_it_with_the_reason(desk, calculator, tmp_path):
    nine = Click(Selector('role=button[name="9"]', calculator))
    episode = recorded(desk, tmp_path / "bag", Click(Selector(SEVEN, calculator)), nine)
    course = course_of(episode)
    gone = replace(course.steps[0], action=Click(Selector("role=button[name=Gone]")), anchors=(
        Anchor(Selector("role=button[name=Gone]")),))  # fmt: skip
    rows = DeskReplay(desk, replace(course, steps=(gone, course.steps[1])), patience_s=0.5).run()
    assert [r.executed for r in rows] == [False]
    assert "did not come in 0.5 s" in rows[0].text and "button '<-'" in rows[0].text
    assert held(desk) == "79"


def test_a_bare_pixel_is_used_only_if_asked_for(desk, calculator):
    x, y = desk.finder.resolve(Selector(SEVEN, calculator)).centre
    at = Point((x + 0.5) / 1000, (y + 0.5) / 700)
    course = Course((DeskStep(Click(at), "me", 1, 0, (Anchor(at),)),))
    rows = DeskReplay(desk, course, patience_s=0.2).run()
    assert not rows[0].executed and "only if asked for" in rows[0].text
    rows = DeskReplay(desk, course, patience_s=0.2, pixels=True).run()
    assert [(r.how, r.executed) for r in rows] == [("pixel", True)]
    until(lambda: held(desk) == "7")


def test_the_guard_of_now_decides(desk, calculator, tmp_path):
    episode = recorded(desk, tmp_path / "bag", Click(Selector(SEVEN, calculator)))
    config = load_desk()
    session = DesktopSession.attach(desk.session.display)
    session.environment["DBUS_SESSION_BUS_ADDRESS"] = desk.session.environment["DBUS_SESSION_BUS_ADDRESS"]
    guard = DeskGuard(config)
    guard.stop("nothing may be done")
    with Desk(session, guard) as other:
        rows = DeskReplay(other, course_of(episode)).run()
    assert [(r.executed, r.refused) for r in rows] == [(False, "STOP_REQUESTED")], rows[0].text
    assert held(desk) == "7"


def test_what_was_done_again_since_a_wait_had_not_come_true_is_done_once():
    def step(action, done=True):
        from optr.connectors.desktop.actions import ActionResult

        return DeskStep(action, "me", 1, 0, result=ActionResult(done))

    from optr.desk_episodes.replay import _without_repeats

    wait = Wait("window", "saved")
    steps = [step(Key("enter")), step(wait, False), step(Key("enter")), step(wait)]
    assert [s.action for s in _without_repeats(steps)] == [Key("enter"), wait]
    steps = [step(Key("tab")), step(Key("tab")), step(wait, False), step(Hotkey(("ctrl", "s")))]
    assert [s.action for s in _without_repeats(steps)] == [Key("tab"), Key("tab"), Hotkey(("ctrl", "s"))]


def test_hidden_texts_have_to_be_given(desk):
    steps = (DeskStep(Type("${secret1}"), "me", 1, 0),)
    with pytest.raises(DesktopError, match="missing: secret1; .*--set secret1=TEXT or --secret secret1=VARIABLE"):
        DeskReplay(desk, Course(steps, ("secret1",)))
    with pytest.raises(DesktopError, match="no hidden text other; there are: secret1"):
        DeskReplay(desk, Course(steps, ("secret1",)), values={"secret1": "x", "other": "y"})


def test_a_bag_of_something_else_is_refused(tmp_path):
    from optr.episodes import BagWriter

    BagWriter(tmp_path / "bag", {}).close()
    with pytest.raises(EpisodeError, match="no episode of a desktop"):
        DeskEpisode(tmp_path / "bag")


# -- windows and elements --------------------------------------------------------------------------------------------


def window(number, title, wm_class="Mousepad", visible=True):
    rect = Rect(0, 0, 100, 100)
    return Window(number, title, (wm_class, wm_class.lower()), 0, rect, rect, False, number, visible)


def test_a_window_is_known_by_its_class_and_title():
    again = WindowsAgain()
    now = (window(50, "*Untitled 1 - Mousepad"), window(51, "Save As"), window(52, "Untitled 1", "Other"))
    assert again.find(window(1, "Untitled 1 - Mousepad"), now).id == 50
    assert again.find(window(2, "Save As"), now).id == 51
    assert again.find(window(3, "Print"), now) is None
    assert again.find(window(1, "note.txt - Mousepad"), now).id == 50, "it was found before"


def test_a_hint_with_the_title_of_its_program_is_not_its_window():
    small = replace(window(51, "galculator"), rect=Rect(0, 0, 20, 10))
    assert WindowsAgain().find(window(1, "galculator"), (window(50, "galculator"), small)).id == 50
    unknown = replace(window(1, "galculator"), rect=Rect(0, 0, 1, 1))
    hint = replace(small, managed=False)
    assert WindowsAgain().find(unknown, (window(50, "galculator"), hint)).id == 50, "a script tells no sizes"
    assert WindowsAgain().find(window(1, "other"), (window(50, "galculator"), hint), sure=False).id == 50


def test_the_only_one_of_a_class_is_taken_when_time_is_short():
    again = WindowsAgain()
    now = (window(50, "127.0.0.1:8000", "Chromium"), window(51, "x", "Other"))
    assert again.find(window(1, "Sign in", "Chromium"), now) is None
    assert again.find(window(1, "Sign in", "Chromium"), now, sure=False).id == 50
    assert WindowsAgain().find(window(1, "a", "Gone"), now, sure=False) is None
    assert WindowsAgain().find(window(1, "Sign in", "Chromium"), (window(5, "Sign in", "Chromium", False),)) is None


def test_an_element_becomes_a_selector_where_it_can_be_told_from_others():
    where = window(7, "w")
    assert selector_of(Element("button", 'Say "x"'), where) == Selector('role=button[name="Say \\"x\\""]', 7)
    assert selector_of(Element("textbox", "", states=("editable",)), where) == Selector("role=textbox", 7)
    assert selector_of(Element("generic", "x"), where) is None
    assert selector_of(Element("label", ""), where) is None
    assert selector_of(None, where) is None
    for role in ("window", "dialog", "document", "application", "group", "list", "toolbar", "region"):
        assert selector_of(Element(role, "x", actions=("raise",)), where) is None, role


def test_a_place_in_a_large_element_is_a_part_of_it():
    where, at = window(7, "w"), Point(0.5, 0.5, "window:7")
    wide = Element("button", "Sign in", rect=Rect(10, 20, 100, 40))
    assert share_of(Anchor(at, wide, where, (34, 29))) == (0.245, 0.2375)
    assert share_of(Anchor(at, replace(wide, rect=Rect(10, 20, 64, 40)), where, (34, 29))) is None
    assert share_of(Anchor(Selector("role=button"), wide, where, (34, 29))) is None, "its middle was clicked"
    assert share_of(Anchor(at, wide, where, (5, 5))) is None


def test_patches_show_what_was_there_before(desk, calculator, tmp_path):
    episode = recorded(desk, tmp_path / "bag", Click(Selector(SEVEN, calculator)))
    patch = episode.patches(episode.steps, (20, 10))[0, 0]
    x, y = episode.steps[0].anchors[0].pixel
    assert patch.shape == (21, 41, 3)
    first = next(p for stamp, p in episode.pictures())
    assert np.array_equal(patch, first[y - 10 : y + 11, x - 20 : x + 21])
