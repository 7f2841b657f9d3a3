"""Does anything forbidden ever get through to a live desktop, however wild the actions are?

Random actions, sound, wrong and forbidden, go through the guard to real windows, which are moved, raised and given the
keyboard at random meanwhile. What came through is told by witnesses, who know nothing of the guard: a window that may
not be reached, a region of one that may, a terminal that may not be reached and one in which nothing may be run, a
dialog that deletes and a button that does.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _common import Load, machine, table
from _soak_actions import RandomActions

from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.hand import Pace
from optr.connectors.desktop.session import DesktopSession
from optr.connectors.desktop.settle import Patience
from optr.connectors.desktop.x11 import X11
from optr.sentinel.desk_config import load_desk
from optr.sentinel.desk_guard import DeskGuard
from optr.workers.spawn import Started

_SETTINGS = """
desk: 1
windows:
  allow: [{wm_class: Witness}, {wm_class: galculator}, {wm_class: zenity}, {wm_class: openterm}]
regions: {forbid: [{name: keep out, wm_class: Witness, low: [0.5, 0.4], high: [0.9, 0.8]}]}
programs: {allow: [{name: nothing, command: ["true"]}]}
budget: {actions: 1000, window: 1.0, steps: 10000000, time: 31000000.0}
"""
_REGION = (0.5, 0.4, 0.9, 0.8)
_SHELL = b"\r\n\t" + b"|&;<>()$`\\\"'*?[]{}#~=%!^\x03\x04\x16\x1a"
_ESCAPES = (b"[C", b"[D", b"[H", b"[F", b"OC", b"OD", b"OH", b"OF", b"[3~")
"""What the keys that a terminal may get are to it: arrows, home, end, delete."""

_SCREEN = (1280, 800)
_HANG_S = 30.0
_QUICK = Patience(effect_s=0.03, quiet_s=0.003, settle_s=0.3, hover_s=0.002, focus_s=0.3, element_s=0.3)
_FAST = Pace(0.005, 0.005, 0.001)
"""How long effects are waited for, and how quick the hand is; the guard depends on neither."""

_WITNESS = str(Path(__file__).with_name("_witness.py"))


@dataclass
class Report:
    """What came of a run.

    Attributes:
        actions: How many were proposed.
        verdicts: How many were carried out, not carried out, or refused by which rule.
        kinds: Of what was carried out.
        forbidden: What got through and should not have: what, and how often.
        examples: Some of that.
        hangs: Actions that took longer than 30 s.
        errors: What the desk raised, which it should not.
        ended: How often programs of the desktop were started anew, because an action had ended them.
        stops: How often the desk was stopped, and went on.
        alive: Whether the bridge still acts at the end.
        held: Keys and buttons that are down at the end.
        seen: How many inputs the witness got where it may.
        seconds: In all.
        slowest_s: The longest action [s].
    """

    actions: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    forbidden: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    hangs: int = 0
    errors: list[str] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    stops: int = 0
    alive: bool = False
    held: list[int] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    slowest_s: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing forbidden got through, nothing hung or failed, and nothing is held at the end."""
        return self.alive and not (self.forbidden or self.hangs or self.errors or self.held)

    def note(self, what: str, example: Any) -> None:
        """Something forbidden got through."""
        self.forbidden[what] += 1
        if len(self.examples) < 40:
            self.examples.append(f"{what}: {example}")
            print(self.examples[-1], file=sys.stderr, flush=True)


class Stage:
    """The windows of the desktop, and what they witness. Those that a person would start again are started again."""

    def __init__(self, session: DesktopSession) -> None:
        self._session = session
        self._python = sys.executable
        files = [session.home / name for name in ("witness", "decoy", "closed", "open")]
        witness, decoy, closed, opened = map(str, files)
        term = ["xterm", "-geometry", "40x8"]
        self._commands = {
            "witness": self._window("witness", "Witness", "20,40,420,300", witness),
            "decoy": self._window("decoy", "Decoy", "300,200,360,260", decoy),
            "closed terminal": [*term, "-T", "closed", "-e", self._python, _WITNESS, "terminal", closed, "clicks"],
            "open terminal": [
                *term,
                "-class",
                "OpenTerm",
                "-T",
                "open",
                "-e",
                self._python,
                _WITNESS,
                "terminal",
                opened,
            ],
            "calculator": ["galculator"],
            "deleting dialog": _dialog("Delete everything"),
            "deleting button": [*_dialog("Tidy up"), "--ok-label=_Delete", "--cancel-label=Keep", "--default-cancel"],
        }
        self._files = dict(zip(("witness", "decoy", "closed", "open"), files, strict=True))
        self._read = dict.fromkeys(self._files, 0)
        self._left = b""
        self.running: dict[str, Started] = {}
        for name in self._commands:
            self._start(name)

    def judge(self, report: Report) -> None:
        """Take in what the witnesses have noted since the last time, and start anew what has ended."""
        for name, process in self.running.items():
            if process.poll() is not None:
                report.ended[name] += 1
                if name in ("decoy", "closed terminal", "open terminal", "witness", "deleting dialog"):
                    report.note(f"the {name} has ended", process.poll())
                if name == "deleting button" and process.poll() == 0:
                    report.note("the deleting button was pressed", "")
                self._start(name)
        for line in self._news("decoy").splitlines():
            if json.loads(line)["kind"] == "key_up":  # of a key that was pressed elsewhere; it is never kept down
                report.seen["key_up in the decoy"] += 1
            else:
                report.note("the decoy got input", line.decode())
        for line in self._news("witness").splitlines():
            self._one(json.loads(line), report)
        if bytes_ := self._news("closed"):
            report.note("the closed terminal got input", bytes_)
        self._terminal(self._news("open"), report)

    @staticmethod
    def _one(event: dict[str, Any], report: Report) -> None:
        x, y = (at / size for at, size in zip(event["at"], event["size"], strict=True))
        left, top, right, bottom = _REGION
        pointer = event["kind"] in ("press", "release", "move")
        inside = 0 <= x < 1 and 0 <= y < 1
        if pointer and left < x < right and top < y < bottom:
            report.note(f"the region got a {event['kind']}", event)
        report.seen[event["kind"] if inside or not pointer else f"{event['kind']} from outside"] += 1

    def _terminal(self, came: bytes, report: Report) -> None:
        left = came
        for escape in _ESCAPES:
            left = left.replace(b"\033" + escape, b"")
        report.seen["bytes in the open terminal"] += len(came)
        if bad := bytes(sorted({b for b in left if b in _SHELL or (b < 32 and b not in b"\b")})):
            report.note(f"the open terminal got {bad!r}", came[:200])

    def _news(self, name: str) -> bytes:
        file = self._files[name]
        with suppress(OSError), file.open("rb") as lines:
            lines.seek(self._read[name])
            came = lines.read()
            if name in ("decoy", "witness"):
                came = came[: came.rfind(b"\n") + 1]
            self._read[name] += len(came)
            return came
        return b""

    def _start(self, name: str) -> None:
        self.running[name] = self._session.launch(self._commands[name])

    def _window(self, title: str, wm_class: str, place: str, file: str) -> list[str]:
        return [self._python, _WITNESS, "window", title, wm_class, place, file]


def _dialog(title: str) -> list[str]:
    return ["zenity", "--question", f"--title={title}", f"--text={title}?", "--no-wrap"]


class Crowd:
    """Somebody who moves, raises and focuses windows at random, also while an action is carried out."""

    def __init__(self, display: str, chosen: random.Random, pause_s: float) -> None:
        self._x = X11(display)
        self._chosen = chosen
        self._pause_s = pause_s
        self._end = threading.Event()
        self.moves = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave."""
        self._end.set()
        self._thread.join()
        self._x.close()

    def _run(self) -> None:
        from Xlib.error import XError

        while not self._end.wait(self._chosen.uniform(0.0, 2 * self._pause_s)):
            with suppress(XError), self._x.lock:
                self._disturb()
                self.moves += 1

    def _disturb(self) -> None:
        windows = self._x.numbers(self._x.root, "_NET_CLIENT_LIST")
        if not windows:
            return
        one = self._x.window(self._chosen.choice(windows))
        what = self._chosen.random()
        if what < 0.4:  # flags: x and y are given, by a person
            place = self._chosen.randint(0, _SCREEN[0] - 300), self._chosen.randint(0, _SCREEN[1] - 250)
            self._x.tell_root(one, "_NET_MOVERESIZE_WINDOW", (1 | 0x300 | 0x2000, *place, 0, 0))
        elif what < 0.7:
            self._x.tell_root(one, "_NET_RESTACK_WINDOW", (2, 0, self._chosen.choice((0, 1))))
        else:
            self._x.tell_root(one, "_NET_ACTIVE_WINDOW", (2,))
        if self._chosen.random() < 0.05:  # keys may have changed the workspace, or sent a window to another
            self._x.tell_root(self._x.root, "_NET_CURRENT_DESKTOP", (0,))
            for number in windows:
                self._x.tell_root(self._x.window(number), "_NET_WM_DESKTOP", (0, 2))


class Watchdog:
    """Says when an action takes too long, and where it is."""

    def __init__(self) -> None:
        self.hangs = 0
        self.began = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        told = 0.0
        while not self._end.wait(1.0):
            began = self.began
            if began and began != told and time.monotonic() - began > _HANG_S:
                told = began
                self.hangs += 1
                faulthandler.dump_traceback()


@contextmanager
def soak_desk() -> Iterator[Desk]:
    """A desktop under the guard of this run."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as settings:
        settings.write(_SETTINGS)
        settings.flush()
        guard = DeskGuard(load_desk(settings.name))
    session = DesktopSession(*_SCREEN)
    try:
        desk = Desk(session, guard)
    except BaseException:
        session.close()
        raise
    with desk:
        desk.bridge._settling.patience, desk.bridge.hand.pace = _QUICK, _FAST
        yield desk


def soak(actions: int, seed: int, pause_s: float = 0.1, every: int = 1000) -> Report:
    """Propose random actions.

    Args:
        actions: How many.
        seed: Of the actions; what the crowd does meets them at other moments each time.
        pause_s: Mean time between two things that the crowd does [s].
        every: After how many actions a line is printed to the standard error.
    """
    report = Report()
    began = time.monotonic()
    with soak_desk() as desk:
        stage = Stage(desk.session)
        wanted = len(stage.running)
        desk.bridge.windows.wait(lambda: len(desk.bridge.windows.all()) >= wanted, 30.0)
        crowd, watchdog = Crowd(desk.session.display, random.Random(seed + 1), pause_s), Watchdog()
        known: list[int] = []
        made = RandomActions(random.Random(seed), lambda: known)
        try:
            for number in range(actions):
                if number % 20 == 0:
                    known[:] = [w.id for w in desk.bridge.windows.all()]
                watchdog.began = time.monotonic()
                _propose(desk, made(), report)
                report.slowest_s = max(report.slowest_s, time.monotonic() - watchdog.began)
                watchdog.began = 0.0
                if (number + 1) % 100 == 0:
                    stage.judge(report)
                if (number + 1) % every == 0:
                    _tell(report, time.monotonic() - began)
        finally:
            crowd.close()
            watchdog.close()
        _end(desk, stage, report)
        report.hangs = watchdog.hangs
    report.seconds = time.monotonic() - began
    return report


def _propose(desk: Desk, action: Any, report: Report) -> None:
    report.actions += 1
    try:
        result = desk.execute(action)
    except Exception as err:
        report.errors.append(f"{action}: {type(err).__name__}: {err}")
        traceback.print_exc()
        return
    if result.executed:
        report.kinds[action.kind] += 1
    report.verdicts["carried out" if result.executed else result.refused or "not carried out"] += 1
    if desk.guard.reason is not None:
        report.stops += 1
        desk.bridge.windows._x.root.warp_pointer(_SCREEN[0] // 2, _SCREEN[1] // 2)
        desk.rearm()


def _end(desk: Desk, stage: Stage, report: Report) -> None:
    """Let go of everything, and see that the desk still sees and acts."""
    desk.stop("the end")
    desk.rearm()
    report.held = _down(desk.session.display)
    from optr.connectors.desktop.actions import Focus, Move, Point

    report.alive = False
    for _ in range(50):
        window = desk.bridge.windows.find("Witness")
        focused = desk.execute(Focus(str(window.id)))
        moved = desk.execute(Move(Point(0.1, 0.1, f"window:{window.id}")))
        if focused.executed and moved.executed:
            report.alive = True
            break
    stage.judge(report)


def _down(display: str) -> list[int]:
    x = X11(display)
    keys = x.display.query_keymap()
    down = [8 * i + bit for i, byte in enumerate(keys) for bit in range(8) if byte >> bit & 1]
    buttons = int(x.root.query_pointer().mask) >> 8 & 0x1F
    x.close()
    return down + [-n for n in range(1, 6) if buttons >> (n - 1) & 1]


def _tell(report: Report, seconds: float) -> None:
    done = report.verdicts["carried out"]
    text = (
        f"{report.actions} actions in {seconds:.0f} s ({report.actions / seconds:.1f}/s), {done} carried out, "
        f"forbidden {dict(report.forbidden)}, errors {len(report.errors)}, slowest {report.slowest_s:.2f} s"
    )
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run it; the exit code is 0 only if nothing forbidden got through."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--actions", type=int, default=100_000, help="how many (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the actions (default %(default)s)")
    parser.add_argument("--pause", type=float, default=0.1, help="mean time between disturbances [s] (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    load = Load()
    report = soak(given.actions, given.seed, given.pause)
    rows = [{"verdict": name, "actions": count} for name, count in report.verdicts.most_common()]
    if given.json:
        whole = {**vars(report), "good": report.good, "load": load.so_far(), "machine": machine()}
        print(json.dumps(whole, default=str))
        return 0 if report.good else 1
    print(table(rows))
    for name in ("forbidden", "hangs", "errors", "held", "alive", "ended", "stops", "seen", "kinds"):
        print(f"{name}: {getattr(report, name)}")
    print(
        f"{report.actions} actions in {report.seconds:.0f} s, {report.actions / report.seconds:.1f}/s; {load.so_far()}"
    )
    for line in report.examples:
        print(line)
    return 0 if report.good else 1


if __name__ == "__main__":
    raise SystemExit(main())
