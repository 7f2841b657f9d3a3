"""Does a task as its file says: by selectors, through the guard, like any operator, but it knows the parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import from_json
from optr.desk_bench.task import SeededTask

_COMES_S = 15.0
"""How long what is acted on may take to be there on a busy machine [s]."""

_TRIES = 4


class Oracle:
    """Chooses the actions of a task, one after the other; one that was not carried out is tried again.

    Raises:
        DesktopError: If its actions in the task's file are none.
    """

    def __init__(self, task: SeededTask) -> None:
        self._actions = list(actions_of(task))
        self._tries = 0
        self._next = 0

    def __call__(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> a.DesktopAction | None:
        """The next action; None once it has tried in vain."""
        last: a.ActionResult | None = info["last"]
        if last is not None and not last.executed:
            self._tries += 1
            if self._tries >= _TRIES:
                return None
        elif last is not None:
            self._next, self._tries = self._next + 1, 0
        return self._actions[self._next] if self._next < len(self._actions) else None


def actions_of(task: SeededTask) -> Iterator[a.DesktopAction]:
    """The actions that do a task, each preceded by a wait for what it acts on; `Done` is the last.

    Raises:
        DesktopError: If one of them is none.
    """
    action: a.DesktopAction | None = None
    for data in _unrolled(task, task.task.oracle, {}):
        action = from_json(data)
        target = getattr(action, "at", None) or getattr(action, "into", None) or getattr(action, "element", None)
        if isinstance(target, a.Selector):
            yield a.Wait("element", target.text, _COMES_S)
        yield action
    if not isinstance(action, a.Done):
        yield a.Done()


def _unrolled(task: SeededTask, oracle: Iterable[Mapping[str, Any]], more: Mapping[str, Any]) -> Iterator[Any]:
    for item in oracle:
        if "each" in item:
            for value in task.fill(item["each"], **more):
                yield from _unrolled(task, item["do"], {**more, "it": value})
        else:
            yield task.fill(dict(item), **more)
