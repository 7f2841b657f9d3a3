"""What became of a task, read by another way than the screen: files, the server's record, processes, windows.

Each reading is compared with what is expected. One that cannot be made is an error, and never a score.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.seen import Window
from optr.desk_bench.site import Site
from optr.desk_bench.task import SeededTask
from optr.errors import DesktopError, OptrError


class CheckError(DesktopError):
    """Nobody can tell whether a task is done: the checker failed, not the operator."""


@dataclass(frozen=True)
class Dialog:
    """A dialog of a task: the file that takes its output, and one that takes its exit code at its end."""

    output: Path
    code: Path


@dataclass
class DeskState:
    """Where checkers look.

    Attributes:
        desk: The desktop.
        site: Server of the pages.
        work: Folder in which the files of the task lie.
        dialogs: Of the task, in order.
        answer: That the operator gave; None: none so far.
    """

    desk: Desk
    site: Site
    work: Path
    dialogs: list[Dialog] = field(default_factory=list)
    answer: str | None = None


def score(task: SeededTask, state: DeskState) -> float:
    """1.0 if everything is as expected, else 0.0.

    Raises:
        CheckError: If that cannot be told.
    """
    return float(all(_holds(task, check, state) for check in task.task.evaluator))


def _holds(task: SeededTask, check: Mapping[str, Any], state: DeskState) -> bool:
    name = str(check.get("func"))
    if name not in CHECKERS or "expected" not in check or set(check) - {"func", "result", "expected"}:
        known = ", ".join(CHECKERS)
        raise CheckError(f"{dict(check)} is no check: expected func, result and expected; func is one of {known}")
    try:
        found = CHECKERS[name](state, **task.fill(check.get("result", {})))
        return bool(_plain(found) == _plain(task.fill(check["expected"])))
    except Exception as err:  # whatever went wrong, it is no score
        kind = "" if isinstance(err, OptrError) else f"{type(err).__name__}: "
        raise CheckError(f"{name}: {kind}{err}") from err


def _plain(value: Any) -> Any:
    """Tuples as lists, whole floats as whole numbers: what JSON cannot tell apart."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


# -- files -------------------------------------------------------------------------------------------------------


def _file_text(state: DeskState, path: str) -> str | None:
    """Text of a file, without the end of its last line; None: there is none."""
    file = _inside(state, path)
    return file.read_text(encoding="utf-8").removesuffix("\n") if file.is_file() else None


def _folder(state: DeskState, path: str = ".") -> list[str] | None:
    """Names in a folder, in order, folders with a / at their end; None: there is none. Hidden ones do not count."""
    folder = _inside(state, path)
    if not folder.is_dir():
        return None
    return sorted(f"{p.name}/" if p.is_dir() else p.name for p in folder.iterdir() if not p.name.startswith("."))


def _inside(state: DeskState, path: str) -> Path:
    file = (state.work / path).resolve()
    if not file.is_relative_to(state.work.resolve()):
        raise DesktopError(f"{path!r} lies outside of the folder of the task")
    return file


# -- pages and dialogs -------------------------------------------------------------------------------------------


def _last_record(state: DeskState, page: str, key: str = "") -> Any:
    """What a page told its server last, or what was under a key of it; None: nothing."""
    last = (state.site.records(page) or [None])[-1]
    return last.get(key) if key and last is not None else last


def _all_records(state: DeskState, page: str) -> list[Any]:
    """Everything that a page told its server, in order."""
    return state.site.records(page)


def _dialog(state: DeskState, number: int = 0) -> dict[str, Any] | None:
    """Exit code and output of a dialog; None: it has not ended."""
    dialog = state.dialogs[number]
    if not dialog.code.is_file() or not (code := dialog.code.read_text(encoding="utf-8").strip()):
        return None
    return {"code": int(code), "text": dialog.output.read_text(encoding="utf-8").strip()}


# -- programs and windows ----------------------------------------------------------------------------------------


def _calculator_value(state: DeskState) -> float | None:
    """Number that the calculator holds, by accessibility: it tells it nowhere else. None: there is none."""
    window = next(iter(_windows(state, "galculator")), None)
    if window is None:
        return None
    if state.desk.tree is None:
        raise DesktopError("this desktop has no accessibility")
    shown = [e.value.strip() for e in state.desk.tree.search("textbox", window=window).items]
    if len(shown) != 1:
        raise DesktopError(f"the calculator has {len(shown)} displays: {shown}")
    try:
        return round(float(shown[0].replace(" ", "")), 6)
    except ValueError:
        return None


def _processes(state: DeskState, program: str) -> int:
    """How many processes of this desktop run a program."""
    own = f"DISPLAY={state.desk.session.display}".encode()
    return sum(_runs(Path(entry), program, own) for entry in os.scandir("/proc") if entry.name.isdigit())


def _runs(process: Path, program: str, own: bytes) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        environment = (process / "environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or somebody else's
        return False
    return Path(words[0].decode()).name == program and own in environment


def _titles(state: DeskState, wm_class: str) -> list[str]:
    """Titles of the windows of a class, sorted."""
    return sorted(w.title for w in _windows(state, wm_class))


def _active(state: DeskState) -> str:
    """Class of the window that the window manager calls active, in small letters; empty: none."""
    number = (_numbers(state, None, "_NET_ACTIVE_WINDOW") or (0,))[0]
    return next((w.wm_class[0].lower() for w in state.desk.bridge.windows.all() if w.id == number), "")


def _window_state(state: DeskState, wm_class: str, name: str) -> bool:
    """Whether the window manager says a state, such as `fullscreen`, of a window of a class."""
    from optr.connectors.desktop.x11 import X11

    connection = X11(state.desk.session.display)
    try:
        wanted = connection.atom(f"_NET_WM_STATE_{name.upper()}")
        windows = [connection.window(w.id) for w in _windows(state, wm_class)]
        return any(wanted in connection.numbers(w, "_NET_WM_STATE") for w in windows)
    finally:
        connection.close()


def _numbers(state: DeskState, window: int | None, name: str) -> tuple[int, ...]:
    from optr.connectors.desktop.x11 import X11

    connection = X11(state.desk.session.display)
    try:
        return connection.numbers(connection.root if window is None else connection.window(window), name)
    finally:
        connection.close()


def _windows(state: DeskState, wm_class: str) -> list[Window]:
    return [w for w in state.desk.bridge.windows.all() if wm_class in [name.lower() for name in w.wm_class]]


# -- answers -----------------------------------------------------------------------------------------------------


def _answer(state: DeskState) -> str | None:
    """What the operator answered, without spaces around it; None: nothing."""
    return None if state.answer is None else state.answer.strip()


def _answer_number(state: DeskState) -> float | None:
    """The number that the operator answered; None: nothing, or no number."""
    try:
        return float(state.answer or "")
    except ValueError:
        return None


CHECKERS: Mapping[str, Callable[..., Any]] = {
    "file_text": _file_text,
    "folder": _folder,
    "last_record": _last_record,
    "all_records": _all_records,
    "dialog": _dialog,
    "calculator_value": _calculator_value,
    "processes": _processes,
    "titles": _titles,
    "active": _active,
    "window_state": _window_state,
    "answer": _answer,
    "answer_number": _answer_number,
}
"""Every reading by its name."""
