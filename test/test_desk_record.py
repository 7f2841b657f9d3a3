"""An episode of a desktop holds what happened: true times, no secrets, and all it takes to do it again."""

from __future__ import annotations

import shutil
import time
from itertools import pairwise

import av
import numpy as np
import pytest
from click.testing import CliRunner

from desktop_pad import PATIENCE_S, until
from optr.cli.episodes_picture import video
from optr.connectors.desktop.actions import Click, Hotkey, Launch, Point, Selector, Type, Wait
from optr.connectors.desktop.demo import demo_desk
from optr.desk_episodes.episode import PERSON, DeskEpisode
from optr.desk_episodes.recorder import DeskRecorder
from optr.desk_episodes.replay import DeskReplay, course_of
from optr.desk_episodes.video import write_desk_video
from optr.errors import EpisodeError
from test_desk_human import Person

for program in ("galculator", "zenity"):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed", allow_module_level=True)

SEVEN = 'role=button[name="7"]'
KEY = "sk-" + "a1B2c3D4e5F6g7H8i9J0"
"""What looks like a key."""


@pytest.fixture(scope="module")
def desk():
    with demo_desk(1000, 700) as made:
        yield made


@pytest.fixture
def calculator(desk):
    desk.guard.begin_task("", desk.look(), desk.look().stamp_ns)
    window = int(desk.execute(Launch("calculator")).answer)
    assert desk.execute(Wait("element", SEVEN, PATIENCE_S)).executed
    yield window
    desk.session._processes[-1].kill()
    until(lambda: not desk.bridge.windows.matching(str(window)))


def all_bytes(episode):
    """Every message of a bag."""
    return b"".join(b"".join(episode.reader.raw(c.topic)) for c in episode.reader.channels() if "screen" not in c.topic)


def test_it_holds_what_was_proposed_judged_and_done_at_its_times(desk, calculator, tmp_path):
    before = time.time_ns()
    with DeskRecorder(desk, tmp_path / "bag", {"operator": "me", "task": "press 7"}):
        assert desk.execute(Click(Selector(SEVEN, calculator))).executed
        refused = desk.execute(Type(KEY))
        assert refused.refused == "SECRET_FORBIDDEN"
        assert desk.execute(Click(Point(0.999, 0.5))).refused
        assert desk.execute(Click(Selector("role=button[name=None]", calculator))).refused
    after = time.time_ns()
    episode = DeskEpisode(tmp_path / "bag")
    steps = episode.steps
    assert [s.sequence for s in steps] == [1, 2, 3, 4]
    assert [s.done for s in steps] == [True, False, False, False]
    assert steps[1].refused == ("SECRET_FORBIDDEN",) and steps[3].refused == ("NO_SUCH_PLACE",)
    assert steps[2].pixels == ((999, 350),), "where it was aimed at"
    times = [t for s in steps for t in (s.stamp_ns, s.ended_ns)]
    assert times == sorted(times) and before < times[0] and times[-1] < after
    assert before < steps[0].stamp_ns < steps[0].seen_ns < steps[0].result.input_ns < steps[0].ended_ns
    anchor = steps[0].anchors[0]
    assert (anchor.element.role, anchor.element.name, anchor.window.id) == ("button", "7", calculator)
    assert anchor.window.wm_class[0] == "Galculator" and anchor.window.rect.holds(*anchor.pixel)
    assert KEY.encode() not in all_bytes(episode)
    assert steps[1].action == Type("${secret1}")
    facts = episode.facts
    assert facts["secrets"] == {"secret1": [2]}
    assert (facts["task"], facts["complete"], facts["dropped"]) == ("press 7", True, 0)
    clicks = [e for e in episode.inputs if e.event == "button_down"]
    assert [(e.injected, (e.x, e.y)) for e in clicks] == [(True, anchor.pixel)]
    assert abs(clicks[0].stamp_ns - steps[0].result.input_ns) < 500_000_000


def test_pictures_are_written_when_something_has_changed(desk, calculator, tmp_path):
    with DeskRecorder(desk, tmp_path / "bag"):
        assert desk.execute(Wait("time", timeout_s=0.6)).executed
        assert desk.execute(Click(Selector(SEVEN, calculator))).executed
    episode = DeskEpisode(tmp_path / "bag")
    pictures = list(episode.pictures())
    assert all(not np.array_equal(a, b) for (_, a), (_, b) in pairwise(pictures))
    assert 2 <= len(pictures) <= 12
    wait, click = episode.steps
    shown = [p for stamp, p in pictures if stamp <= click.seen_ns][-1]
    rest = [p for stamp, p in pictures if stamp > click.seen_ns]
    assert shown.shape == (700, 1000, 3) and rest and wait.ended_ns <= click.stamp_ns
    with DeskRecorder(desk, tmp_path / "none", pictures_hz=0):
        assert desk.execute(Click(Selector(SEVEN, calculator))).executed
    assert not list(DeskEpisode(tmp_path / "none").pictures())


@pytest.fixture
def person(desk):
    made = Person(desk.session.display)
    yield made
    made.close()


def test_what_goes_into_a_password_field_is_not_stored(desk, person, tmp_path):
    desk.guard.begin_task("", desk.look(), desk.look().stamp_ns)

    def asked():
        """A dialog that asks for a password, and tells it."""
        process = desk.session.launch(["zenity", "--password", "--title=Secret"])
        assert desk.execute(Wait("element", "role=textbox[password]", PATIENCE_S)).executed
        return process

    def told(process):
        until(lambda: process.poll() is not None)
        return desk.session.said(process).strip().splitlines()[-1]

    with DeskRecorder(desk, tmp_path / "bag"):
        process = asked()
        assert desk.execute(Type("hunter2", Selector("role=textbox[password]"))).executed
        assert desk.execute(Click(Selector("role=button[name=OK]"))).executed
        assert told(process) == "hunter2"
        process = asked()
        person.click(*desk.finder.resolve("role=textbox[password]").centre)
        for key in "swordf1sh":
            person.keys(key)
        assert desk.execute(Wait("time", timeout_s=0.5)).executed
        person.click(*desk.finder.resolve("role=button[name=OK]").centre)
        assert told(process) == "swordf1sh"
    episode = DeskEpisode(tmp_path / "bag")
    held = all_bytes(episode)
    assert b"hunter2" not in held and b"swordf1sh" not in held
    keys = [e for e in episode.inputs if e.event == "key_down" and not e.injected]
    assert len(keys) == 9 and not any(e.name or e.text for e in keys)
    assert episode.secrets == ("secret1", "secret2")
    typed = [(s.by == PERSON, s.action.text) for s in episode.steps if isinstance(s.action, Type)]
    assert typed == [(False, "${secret1}"), (True, "${secret2}")]
    process = asked()
    course = course_of(episode)
    course = course.__class__(tuple(s for s in course.steps if s.by == "" and s.action.kind != "wait"), ("secret1",))
    assert all(r.executed for r in DeskReplay(desk, course, values={"secret1": "another"}).run())
    assert told(process) == "another"


def test_which_letters_of_a_password_are_capitals_is_not_stored(desk, person, tmp_path):
    """Shift is not told of beside them; it is with what types nothing."""
    process = desk.session.launch(["zenity", "--password", "--title=Secret"])
    assert desk.execute(Wait("element", "role=textbox[password]", PATIENCE_S)).executed
    with DeskRecorder(desk, tmp_path / "bag") as recorder:
        person.click(*desk.finder.resolve("role=textbox[password]").centre)
        for keys in (("a",), ("Shift_L", "b"), ("Shift_R", "c"), ("Shift_L", "Home")):
            person.keys(*keys)
        until(lambda: recorder._human.foreign == 8)
    process.kill()
    episode = DeskEpisode(tmp_path / "bag")
    keys = [(e.event, e.name) for e in episode.inputs if e.event.startswith("key")]
    assert keys[:6] == [("key_down", ""), ("key_up", "")] * 3
    assert keys[6:] == [("key_down", "shift"), ("key_down", "home"), ("key_up", "shift"), ("key_up", "home")]
    assert [s.action for s in episode.steps[1:]] == [Type("${secret1}"), Hotkey(("shift", "home"))]


def test_a_video_shows_clicks_and_what_was_refused(desk, calculator, tmp_path):
    with DeskRecorder(desk, tmp_path / "bag", {"task": "press 7"}):
        assert desk.execute(Click(Selector(SEVEN, calculator))).executed
        assert desk.execute(Wait("time", timeout_s=1.0)).executed
        assert desk.execute(Click(Point(0.2, 0.9))).refused
    episode = DeskEpisode(tmp_path / "bag")
    words = [str(tmp_path / "bag"), "-o", str(tmp_path / "a.mp4")]
    done = CliRunner().invoke(video, words, standalone_mode=False)
    assert done.return_value == 0, done.output
    frames = frames_of(tmp_path / "a.mp4")
    assert frames[0].shape == (734, 1000, 3)
    orange = [near(f, episode.steps[0].pixels[0], (255, 140, 0)) for f in frames]
    red = [near(f, episode.steps[2].pixels[0], (230, 30, 30)) for f in frames]
    assert any(orange) and not all(orange) and any(red) and not all(red)
    assert orange.index(True) < red.index(True), "in the order of time"
    with pytest.raises(EpisodeError, match="no episode"):
        write_desk_video([], tmp_path / "b.mp4")


def frames_of(path):
    with av.open(str(path)) as file:
        return [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]


def near(frame, pixel, colour):
    """Whether a ring of a colour is around a pixel."""
    x, y = pixel
    part = frame[max(0, y - 30) : y + 30, max(0, x - 30) : x + 30].astype(int)
    return int((np.abs(part - colour).max(axis=2) < 60).sum()) > 20


def test_a_recording_that_is_given_up_leaves_nothing(desk, tmp_path):
    recorder = DeskRecorder(desk, tmp_path / "bag")
    assert recorder in desk.watchers
    recorder.discard()
    assert recorder not in desk.watchers and not list(tmp_path.iterdir())
    (tmp_path / "bag").mkdir()
    with pytest.raises(EpisodeError, match="exists already"):
        DeskRecorder(desk, tmp_path / "bag")
    assert desk.watchers == []
