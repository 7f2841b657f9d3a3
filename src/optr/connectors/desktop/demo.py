"""Three small tasks on real programs, each carried out through the guard and checked by another way than the screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.login_page import LoginPage
from optr.connectors.desktop.session import DesktopSession
from optr.errors import DesktopError
from optr.sentinel.desk_config import load_desk
from optr.sentinel.desk_guard import DeskGuard

NAME, PASSWORD = "ada", "difference engine 2"
NOTE = "Bolts: 42\nNuts: 15 < 27, äöü €"
_COMES_S = 30.0
"""How long a program may take to come up on a busy machine [s]."""

_ANSWERS_S = 2.0
"""How long something that is up may take to answer until it is asked again [s]."""


@dataclass
class DeskRun:
    """One task as it went.

    Attributes:
        task: Its name.
        success: Whether the checker finds it done.
        steps: Actions that were carried out.
        seconds: From the first action to the check [s].
        effects: How many of them had which effect.
        answer: What was read, if something was to be.
        text: Why it is not done; empty: it is.
    """

    task: str
    success: bool = False
    steps: int = 0
    seconds: float = 0.0
    effects: dict[str, int] = field(default_factory=dict)
    answer: str = ""
    text: str = ""


class _NotDoneError(DesktopError):
    """An action did not come to what the next one needs."""


@dataclass
class _Hands:
    """A desk, and the account of what is done on it."""

    desk: Desk
    run: DeskRun

    def do(self, *actions: a.DesktopAction) -> a.ActionResult:
        """Carry actions out, one after the other.

        Raises:
            DesktopError: If one of them is refused, or is not carried out.
        """
        for action in actions:
            result = self.desk.execute(action)
            if not result.executed:
                why = f"{result.refused}: {result.text}" if result.refused else result.text
                raise _NotDoneError(f"{action.kind}: {why}")
            self.run.steps += 1
            self.run.effects[result.effect.value] = self.run.effects.get(result.effect.value, 0) + 1
        return result

    def launched(self, program: str, *arguments: str) -> str:
        """Start a program, and answer the id of its window."""
        result = self.do(a.Launch(program, arguments))
        if not result.answer:
            raise _NotDoneError(f"{program}: {result.text}")
        return result.answer

    def until(self, action: a.DesktopAction, wait: a.Wait, tries: int = 10) -> None:
        """Do something, and do it again as long as what it leads to does not come.

        A list of suggestions that is open, as of a dialog for files, may take a key or a click for itself.
        """
        for _ in range(tries):
            self.do(action)
            if self.desk.execute(wait).executed:
                return
        raise _NotDoneError(f"{action.kind}: was done {tries} times, and {wait.until} {wait.value!r} did not come")

    def click(self, *selectors: str) -> None:
        """Click elements, one after the other."""
        for selector in selectors:
            self.do(a.Click(a.Selector(selector)))


@contextmanager
def demo_desk(width: int = 1280, height: int = 800, monitors: Sequence[int] = ()) -> Iterator[Desk]:
    """A desktop of its own under the guard of the demonstration."""
    session = DesktopSession(width, height, monitors=monitors)
    try:
        desk = Desk(session, DeskGuard(load_desk("demo")))
    except BaseException:
        session.close()
        raise
    with desk:
        yield desk


@dataclass(frozen=True)
class Given:
    """What a task finds.

    Attributes:
        texts: Those that are others on another desktop, by what they are.
        page: To sign in to.
    """

    texts: dict[str, str] = field(default_factory=dict)
    page: LoginPage | None = None


@dataclass(frozen=True)
class DeskTask:
    """One task.

    Attributes:
        name: For people.
        surroundings: Brings up what it needs beside the desktop, for as long as it lasts.
        act: Does it.
        check: What is missing, seen by another way than the screen; empty: nothing.
    """

    name: str
    surroundings: Callable[[Desk], AbstractContextManager[Given]]
    act: Callable[[_Hands, Given], None]
    check: Callable[[Desk, Given, DeskRun], str]


def tasks(slow_s: float = 0.0) -> tuple[DeskTask, ...]:
    """The three tasks.

    Args:
        slow_s: How long the page takes to answer [s].
    """
    return (
        DeskTask("sign in", lambda _: _page(slow_s), _sign_in, _signed_in),
        DeskTask("add 15 and 27", lambda _: nullcontext(Given()), _add, _added),
        DeskTask("save a note", lambda desk: nullcontext(Given({"file": str(_note(desk))})), _save, _saved),
    )


def run_demo(desk: Desk, told: Callable[[str], object] = lambda _: None) -> list[DeskRun]:
    """Carry the three tasks out, one after the other; one that fails does not end the others.

    Args:
        desk: As of `demo_desk`.
        told: Told the name of each task before it begins.
    """
    runs = []
    for task in tasks():
        told(task.name)
        with task.surroundings(desk) as given:
            runs.append(carry_out(desk, task, given))
    return runs


def carry_out(desk: Desk, task: DeskTask, given: Given) -> DeskRun:
    """Carry one task out, and check it."""

    def act(run: DeskRun) -> None:
        task.act(_Hands(desk, run), given)

    return judged(desk, task, given, act)


def judged(desk: Desk, task: DeskTask, given: Given, act: Callable[[DeskRun], object]) -> DeskRun:
    """How a task went that is done by `act`, which raises a DesktopError if it cannot be."""
    run = DeskRun(task.name)
    began = time.monotonic()
    desk.begin_task(task.name)
    try:
        act(run)
        run.text = task.check(desk, given, run)
    except DesktopError as err:
        run.text = str(err)
    run.success = not run.text
    run.seconds = round(time.monotonic() - began, 3)
    return run


# -- tasks -----------------------------------------------------------------------------------------------------------


@contextmanager
def _page(slow_s: float) -> Iterator[Given]:
    with LoginPage({NAME: PASSWORD}, slow_s) as page:
        yield Given({"url": page.url}, page)


def _sign_in(hands: _Hands, given: Given) -> None:
    hands.launched("browser", given.texts["url"])
    hands.do(
        a.Wait("element", "#username", _COMES_S),
        a.Type(NAME, a.Selector("#username")),
        a.Type(PASSWORD, a.Selector("#password")),
    )
    hands.click('role=button[name="Sign in"]')
    hands.do(a.Wait("window", "Signed in", _COMES_S))


def _signed_in(_: Desk, given: Given, run: DeskRun) -> str:
    names = given.page.signed_in if given.page is not None else []
    return "" if names == [NAME] else f"the page says that {names} signed in"


def _add(hands: _Hands, _: Given) -> None:
    window = hands.launched("calculator")
    hands.do(a.Wait("element", 'role=button[name="="]', _COMES_S))
    hands.click(*(f'role=button[name="{key}"]' for key in ("1", "5", "+", "2", "7", "=")))
    hands.do(a.Wait("still", timeout_s=_COMES_S, frame=f"window:{window}"))
    hands.do(a.Done(_read(hands.desk)))


def _added(desk: Desk, _: Given, run: DeskRun) -> str:
    run.answer = _read(desk)
    held = desk.finder.find(_shown(desk)).value.strip()
    if held != "42":
        return f"accessibility says that the calculator holds {held!r}"
    return "" if run.answer == "42" else f"{run.answer!r} was read"


def _shown(desk: Desk) -> a.Selector:
    """Where the calculator shows its result."""
    return a.Selector("role=textbox", desk.bridge.windows.find("galculator").id)


def _read(desk: Desk) -> str:
    return " ".join(line.name for line in desk.finder.read(desk.finder.resolve(_shown(desk))))


def _save(hands: _Hands, given: Given) -> None:
    hands.launched("editor")
    hands.do(a.Type(NOTE))
    hands.until(a.Hotkey(("ctrl", "s")), a.Wait("window", "Save", _ANSWERS_S))
    hands.do(
        a.Wait("element", 'role=textbox[name="Name"][focused]', _COMES_S),
        a.Type(given.texts["file"]),
    )
    hands.until(a.Key("enter"), a.Wait("window", "note.txt", _ANSWERS_S))


def _saved(desk: Desk, _: Given, run: DeskRun) -> str:
    file = _note(desk)
    return "" if _text(file) == NOTE else f"{file.name} holds {_text(file)!r}"


def _note(desk: Desk) -> Path:
    return desk.session.home / "note.txt"


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8").removesuffix("\n") if file.is_file() else ""


def summary(runs: list[DeskRun]) -> dict[str, Any]:
    """The whole in one JSON object."""
    return {
        "tasks": len(runs),
        "successes": sum(r.success for r in runs),
        "seconds": round(sum(r.seconds for r in runs), 3),
        "rows": [vars(r) for r in runs],
    }
