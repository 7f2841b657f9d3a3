"""The demonstration: three tasks recorded, then done again on a fresh desktop with other places and a slow page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop import demo
from optr.connectors.desktop.demo import DeskRun, DeskTask, demo_desk
from optr.connectors.desktop.desk import Desk
from optr.desk_episodes.episode import DeskEpisode
from optr.desk_episodes.recorder import DeskRecorder
from optr.desk_episodes.replay import DeskReplay, Row, course_of
from optr.desk_episodes.video import write_desk_video
from optr.errors import DesktopError
from optr.spec import Source

SLOW_S = 1.5
"""How long the page takes to answer when it is replayed [s]."""

_RETRIES = 5
_VIDEO = "desktop.mp4"


@dataclass
class Shown:
    """One task of the demonstration.

    Attributes:
        run: As it was recorded.
        again: As it was replayed.
        bag: Its episode.
        rows: Of the replay.
    """

    run: DeskRun
    bag: Path
    again: DeskRun
    rows: list[Row] = field(default_factory=list)


def show(folder: Path, size: tuple[int, int], told: Callable[[str], object] = lambda _: None) -> list[Shown]:
    """Record the tasks on one desktop, and replay them on another.

    Args:
        folder: Gets a bag for each task as it was recorded, one as it was replayed, and the video.
        size: Of the screens [px].
        told: Told what is being done.

    Raises:
        OptrError: If a desktop does not come up, or something cannot be written.
    """
    shown = []
    with demo_desk(*size) as desk:
        for task in demo.tasks():
            told(f"recording: {task.name}")
            shown.append(_recorded(desk, task, folder / _name(task)))
    with demo_desk(*size) as desk:
        for task, one in zip(demo.tasks(SLOW_S), shown, strict=True):
            if one.run.success:
                told(f"replaying: {task.name}")
                _replay(desk, task, one, one.bag.with_name(f"{one.bag.name}-replayed"))
    told("drawing the video")
    pairs = [(path, f"{one.run.task}{note}") for one in shown for path, note in _bags(one)]
    write_desk_video([DeskEpisode(p) for p, _ in pairs], folder / _VIDEO, titles=[t for _, t in pairs])
    return shown


def summary(shown: Sequence[Shown], folder: Path, seconds: float) -> dict[str, Any]:
    """The whole in one JSON object."""
    return {
        "tasks": len(shown),
        "successes": sum(s.run.success for s in shown),
        "replayed": sum(s.again.success for s in shown),
        "seconds": round(seconds, 3),
        "folder": str(folder),
        "video": str(folder / _VIDEO),
        "rows": [vars(s.run) for s in shown],
        "replays": [{**vars(s.again), "found_by": _found_by(s.rows)} for s in shown],
    }


def _recorded(desk: Desk, task: DeskTask, bag: Path) -> Shown:
    recorder = DeskRecorder(desk, bag, {"task": task.name, "operator": "demo"})
    try:
        with task.surroundings(desk) as given:
            run = demo.carry_out(desk, task, given)
        recorder.close(_outcome(run), given=given.texts)
    except BaseException:
        recorder.discard()
        raise
    return Shown(run, bag, DeskRun(task.name, text="it was not replayed"))


def _replay(desk: Desk, task: DeskTask, one: Shown, bag: Path) -> None:
    """Do a task again as it is in its bag, and record that, too."""
    episode = DeskEpisode(one.bag)
    before = dict(episode.facts["given"])
    windows = _Windows(desk)

    def act(run: DeskRun) -> None:
        swaps = {str(old): given.texts[what] for what, old in before.items()}
        hidden = dict.fromkeys(episode.secrets, demo.PASSWORD)
        again = DeskReplay(
            desk, course_of(episode), values=hidden, swaps=swaps, retries=_RETRIES, told=windows.move_new
        )
        one.rows = again.run()
        run.steps = sum(r.executed for r in one.rows)
        run.effects = dict(Counter(r.effect for r in one.rows if r.executed))
        if one.rows and not one.rows[-1].executed:
            last = one.rows[-1]
            raise DesktopError(f"{last.kind}: {': '.join(t for t in (last.refused, last.text) if t)}")

    recorder = DeskRecorder(desk, bag, {"task": task.name, "operator": "replay"}, source=Source.REPLAY)
    try:
        with task.surroundings(desk) as given:
            one.again = demo.judged(desk, task, given, act)
        recorder.close(_outcome(one.again), given=given.texts)
    except BaseException:
        recorder.discard()
        raise


class _Windows:
    """Puts windows elsewhere as soon as they have come up, as a person would."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._known = {w.id for w in desk.bridge.windows.all()}

    def move_new(self, row: Row) -> None:
        """Move those that a program has come up with, and make them smaller."""
        if row.kind != "launch" or not row.executed:
            return
        windows, screen = self._desk.bridge.windows, self._desk.bridge.screen.rect
        for window in windows.all():
            if window.id in self._known or not window.visible or not any(window.wm_class):
                continue
            self._known.add(window.id)
            width, height = (
                min(window.rect.width, screen.width * 3 // 4),
                min(window.rect.height, screen.height * 3 // 4),
            )
            x = 8 if window.outer.x > 60 else screen.width - width - 24
            y = 40 if window.outer.y > 100 else screen.height - height - 24
            windows.place(window.id, a.Rect(x, y, width, height))


def _outcome(run: DeskRun) -> str:
    return "success" if run.success else "failure"


def _name(task: DeskTask) -> str:
    return task.name.replace(" ", "-")


def _bags(one: Shown) -> list[tuple[Path, str]]:
    both = [(one.bag, ": recorded"), (one.bag.with_name(f"{one.bag.name}-replayed"), ": replayed, moved")]
    return [(path, note) for path, note in both if path.is_dir()]


def _found_by(rows: Sequence[Row]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        if row.how:
            found[row.how] = found.get(row.how, 0) + 1
    return found
