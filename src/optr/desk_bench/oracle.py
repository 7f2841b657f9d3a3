"""Does a task as its file says: by selectors, through the guard, like any operator, but it knows the parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import from_json
from optr.connectors.desktop.seen import Window
from optr.desk_bench.task import SeededTask
from optr.errors import DesktopError

_COMES_S = 1.5
"""How long what is acted on is waited for, before the pointer is taken away from where it may show a hint [s]."""

_TRIES = 8


class Oracle:
    """Chooses the actions of a task, one after the other; one that was not carried out is tried again."""

    def __init__(self, task: SeededTask) -> None:
        self._plan = list(plan_of(task))
        self._tries = 0
        self._next = 0
        self._aside = False

    def __call__(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> a.DesktopAction:
        """The next action; `Fail` once it has tried one in vain.

        Raises:
            DesktopError: If it is none, or the window that it names is not there.
        """
        last: a.ActionResult | None = info["last"]
        windows: Sequence[Window] = observation["observation.windows"]
        if self._aside:
            self._aside = False
        elif last is not None and not last.executed:
            self._tries += 1
            if self._tries >= _TRIES:
                return a.Fail(last.text)
            if (away := _away(windows)) is not None:
                self._aside = True
                return away
        elif last is not None:
            self._next, self._tries = self._next + 1, 0
        return from_json(_in_windows(self._plan[self._next], windows))


def _away(windows: Sequence[Window]) -> a.Move | None:
    """The pointer to the upper edge of the window: the hint that a button shows may lie over the next one."""
    focused = next((w for w in windows if w.focused), None)
    return None if focused is None else a.Move(a.Point(0.5, 0.01, f"window:{focused.id}"))


def plan_of(task: SeededTask) -> Iterator[dict[str, Any]]:
    """The actions that do a task as data, each preceded by a wait for what it acts on; `done` is the last.

    Raises:
        DesktopError: If one of them names a parameter that there is not.
    """
    kind = ""
    for data in _unrolled(task, task.task.oracle, {}):
        kind = data["kind"]
        target = data.get("at") or data.get("into") or {}
        if "selector" in target and "within" not in target:
            yield {"kind": "wait", "until": "element", "value": target["selector"], "timeout_s": _COMES_S}
        yield data
    if kind != "done":
        yield {"kind": "done"}


def _unrolled(task: SeededTask, oracle: Iterable[Mapping[str, Any]], more: Mapping[str, Any]) -> Iterator[Any]:
    for item in oracle:
        if "each" in item:
            for value in task.fill(item["each"], **more):
                yield from _unrolled(task, item["do"], {**more, "it": value})
        else:
            yield task.fill(dict(item), **more)


def _in_windows(data: Any, windows: Sequence[Window]) -> Any:
    """An action of which each `within` is not the class of a window any more, but its id."""
    if isinstance(data, list):
        return [_in_windows(item, windows) for item in data]
    if not isinstance(data, Mapping):
        return data
    made = {name: _in_windows(value, windows) for name, value in data.items()}
    if isinstance(made.get("within"), str):
        made["within"] = _number(made["within"], windows)
    return made


def _number(wm_class: str, windows: Sequence[Window]) -> int:
    found = [w.id for w in windows if wm_class in [name.lower() for name in w.wm_class]]
    if not found:
        listed = ", ".join(w.wm_class[0] for w in windows) or "none"
        raise DesktopError(f"no window of class {wm_class!r}; there are: {listed}")
    return found[-1]
