"""MiniWoB++ as an environment: pages in Chromium, acted on through a desk, rewarded by what the page counts."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.session import DesktopSession
from optr.desk_bench.miniwob.look_script import LOOK
from optr.desk_bench.miniwob.pages import PageServer, known_tasks
from optr.desk_bench.miniwob.seen import Observation, observed
from optr.errors import DesktopError
from optr.sentinel.desk_config import load_desk
from optr.sentinel.desk_guard import DeskGuard

if TYPE_CHECKING:
    from optr.connectors.desktop.devtools import DevTools

TIME_LIMIT_S = 30.0
"""For one episode, in place of the 7 to 30 s of the pages' own: they are set for hands that do not look first."""

_SCREEN = (640, 540)
_COMES_S = 40.0
_READY_S = 10.0
_FIRST = "click-test"

_START = """(() => {{
  core.EPISODE_MAX_TIME = {limit_ms};
  core.setDataMode('train');
  Math.seedrandom({seed});
  core.startEpisodeReal();
}})()"""


@dataclass(frozen=True)
class Outcome:
    """What the page counts.

    Attributes:
        done: Whether the episode is over.
        raw: Reward without the discount for time, -1 to 1; 0 as long as it is not done.
        reward: With it.
    """

    done: bool
    raw: float
    reward: float


class MiniWob:
    """Owns a desktop with one Chromium on the pages; a context manager.

    Attributes:
        desk: All actions go through it.
    """

    def __init__(self) -> None:
        """Bring the desktop up and open the first page.

        Raises:
            DesktopError: If the pages are not installed, or something does not come up.
        """
        self._server = PageServer()
        try:
            self.desk = self._open_desk()
        except BaseException:
            self._server.close()
            raise
        try:
            self._open_browser()
        except BaseException:
            self.close()
            raise

    def reset(self, task: str, seed: int) -> Observation:
        """Load the page of a task anew and begin an episode.

        Raises:
            OptrError: If there is no such task, or the page does not come up.
        """
        known_tasks((task,))
        self._load(task)
        self._page.evaluate(_START.format(limit_ms=round(TIME_LIMIT_S * 1000), seed=json.dumps(seed)))
        self._until("WOB_TASK_READY", f"the task {task}")
        self.desk.begin_task(task)
        self._place = self._page_place()
        return self.look()

    def look(self) -> Observation:
        """The page as it is."""
        screen = self.desk.bridge.screen
        answer, picture = self._page.evaluate(LOOK), screen.grab(self._place)
        return observed(answer, self._place, (screen.rect.width, screen.rect.height), picture.pixels)

    def act(self, action: a.DesktopAction) -> a.ActionResult:
        """Carry an action out, if the guard lets it."""
        return self.desk.execute(action)

    def outcome(self) -> Outcome:
        """What the page counts now."""
        told = self._page.evaluate("[WOB_DONE_GLOBAL, WOB_RAW_REWARD_GLOBAL, WOB_REWARD_GLOBAL]")
        return Outcome(bool(told[0]), float(told[1]), float(told[2]))

    def close(self) -> None:
        """End everything."""
        self.desk.close()
        self._server.close()

    def __enter__(self) -> MiniWob:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_desk(self) -> Desk:
        session = DesktopSession(*_SCREEN)
        try:
            return Desk(session, DeskGuard(load_desk("miniwob")))
        except BaseException:
            session.close()
            raise

    def _open_browser(self) -> None:
        opened = self.desk.execute(a.Launch("browser", (f"--app={self._server.url}{_FIRST}.html",)))
        if not opened.executed:
            raise DesktopError(f"Chromium does not come up: {opened.refused} {opened.text}")
        self._page = self._answering()
        self._until("document.readyState === 'complete'", "the first page")
        shown = self.desk.execute(a.Wait("element", "#sync-task-cover", _COMES_S))
        if not shown.executed:
            raise DesktopError(f"the first page is not shown: {shown.text}")
        self._place = self._page_place()

    def _answering(self) -> DevTools:
        end = time.monotonic() + _COMES_S
        while not (found := self.desk.browsers()):
            if time.monotonic() > end:
                raise DesktopError(f"Chromium does not answer within {_COMES_S:g} s")
            time.sleep(0.05)
        return found[0]

    def _load(self, task: str) -> None:
        """Go to a page, and wait until it is another document than before, and ready."""
        self._page.evaluate(f"window.left = true; location.href = {json.dumps(f'{self._server.url}{task}.html')}")
        ready = "window.left === undefined && document.readyState === 'complete' && !!core.cover_div"
        self._until(ready, f"the page of {task}")

    def _until(self, condition: str, what: str) -> None:
        end = time.monotonic() + _READY_S
        while not self._holds(condition):
            if time.monotonic() > end:
                raise DesktopError(f"{what} is not ready within {_READY_S:g} s")
            time.sleep(0.005)

    def _holds(self, condition: str) -> Any:
        try:
            return self._page.evaluate(condition)
        except DesktopError:  # between two documents nothing answers
            return False

    def _page_place(self) -> a.Rect:
        """Where the page lies on the screen."""
        found = self._page.find(["html"], reveal=lambda _: False)
        if not found.elements or found.elements[0].rect is None:
            raise DesktopError(f"nobody can tell where the page lies: {found.trouble or found.hints}")
        rect = found.elements[0].rect
        width, height = self._page.evaluate("[innerWidth, innerHeight]")
        return a.Rect(rect.x, rect.y, width, height)
