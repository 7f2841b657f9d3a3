"""Tasks as data: `config/desk_tasks/<id>.json`, in the manner of OSWorld's, with seeded parameters and an oracle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optr.desk_bench.parameters import draw, filled
from optr.errors import DesktopError, UnknownNameError
from optr.share import share_path

APPS = ("terminal", "editor", "calculator", "files", "browser", "dialog")
_STEPS = 40
_NEEDED = ("id", "instruction", "level", "apps", "parameters", "config", "evaluator", "oracle")
_MAY = ("max_steps",)


@dataclass(frozen=True)
class DeskTask:
    """A task of which every seed makes another one.

    Attributes:
        id: Name of its file.
        instruction: Template of what the operator is told.
        level: 1: one application and a few actions; 2: one and several steps; 3: two or more applications.
        apps: Which an operator has to use, of `APPS`.
        parameters: How they are made, by name; see `parameters`.
        config: Steps that set it up, each with `type` and `parameters`.
        evaluator: What has to be so at the end, each with `func`, `result` (where to look) and `expected`.
        oracle: Actions that do it, as `codec.to_json` writes them, with `{"each": list, "do": actions}` among them.
        max_steps: Actions after which it is over.
    """

    id: str
    instruction: str
    level: int
    apps: tuple[str, ...]
    parameters: Mapping[str, Any]
    config: tuple[Mapping[str, Any], ...]
    evaluator: tuple[Mapping[str, Any], ...]
    oracle: tuple[Mapping[str, Any], ...]
    max_steps: int = _STEPS

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DeskTask:
        """Read a task.

        Raises:
            DesktopError: If it cannot be read, or is no task; the message says what is wrong.
        """
        path = Path(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as err:
            raise DesktopError(f"{path} is no task: {err}") from err
        _check(path, data)
        lists = {name: tuple(data[name]) for name in ("apps", "config", "oracle")}
        evaluator = data["evaluator"] if isinstance(data["evaluator"], list) else [data["evaluator"]]
        return cls(**{**data, **lists, "evaluator": tuple(evaluator)})

    def seeded(self, seed: int) -> SeededTask:
        """The task that a seed makes of it.

        Raises:
            DesktopError: If it is no seed, or a parameter cannot be made.
        """
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise DesktopError(f"seed {seed!r} is none: expected a whole number from 0")
        return SeededTask(self, seed, draw(self.parameters, self.id, seed))


@dataclass(frozen=True)
class SeededTask:
    """A task with its parameters.

    Attributes:
        task: What it was made of.
        seed: Of its parameters.
        values: Its parameters, by name.
    """

    task: DeskTask
    seed: int
    values: Mapping[str, Any]

    @property
    def instruction(self) -> str:
        """What the operator is told."""
        return str(filled(self.task.instruction, self.values))

    def fill(self, template: Any, **more: Any) -> Any:
        """A part of the task with its parameters put in.

        Args:
            template: Text, list or object.
            more: Values beside the parameters.

        Raises:
            DesktopError: If it names a parameter that there is not.
        """
        return filled(template, {**self.values, **more})


def load_tasks(names: Sequence[str] = (), folder: str | os.PathLike[str] | None = None) -> tuple[DeskTask, ...]:
    """Tasks by their ids; without any, all that ship, the easy ones first.

    Args:
        names: Ids.
        folder: Where their files lie; None: those that ship.

    Raises:
        UnknownNameError: If there is none of a name.
        DesktopError: If one is no task.
    """
    place = Path(folder) if folder is not None else share_path("config", "desk_tasks")
    files = {path.stem: path for path in sorted(place.glob("*.json"))}
    for name in names:
        if name not in files:
            raise UnknownNameError("desktop task", name, files)
    tasks = [DeskTask.load(files[name]) for name in names or files]
    return tuple(tasks) if names else tuple(sorted(tasks, key=lambda t: (t.level, t.id)))


def _check(path: Path, data: Any) -> None:
    if not isinstance(data, dict):
        raise DesktopError(f"{path} is no task: expected an object, got {type(data).__name__}")
    missing = [name for name in _NEEDED if name not in data]
    unknown = [name for name in data if name not in (*_NEEDED, *_MAY)]
    if missing or unknown:
        raise DesktopError(f"{path}: missing {missing}, unknown {unknown}; a task has {', '.join((*_NEEDED, *_MAY))}")
    if data["id"] != path.stem:
        raise DesktopError(f"{path}: its id is {data['id']!r}, expected the name of its file")
    if data["level"] not in (1, 2, 3):
        raise DesktopError(f"{path}: level {data['level']!r}, expected 1, 2 or 3")
    strange = [app for app in data["apps"] if app not in APPS]
    if strange or not data["apps"]:
        raise DesktopError(f"{path}: no application {strange}; expected some of {', '.join(APPS)}")
