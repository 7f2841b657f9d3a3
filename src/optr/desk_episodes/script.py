"""A run of a desktop as a script that people read and change, and that is repeated without any model.

    desktop_script: 1
    parameters: {user: ada, secret1: null}      # null: has to be given
    windows:
      1: {title: Sign in - Chromium, wm_class: Chromium}
    actions:
    - {kind: launch, program: browser, arguments: ['http://127.0.0.1:8000/'], opens: 1}
    - {kind: type, text: '${user}', into: {selector: '#username'}}

Actions are as in JSON, windows have the numbers of the table: `within: 1`, `frame: window:1`. Beside its fields an
action may name the window that it `opens`, the `keyboard`: the window that gets its keys, and the `share` of what the
selector of its first place means: `[0, 0]` is the upper left corner, `[1, 1]` the lower right one, and without it the
middle is meant. Windows are found by their class, by their title where there are several. `$${` is `${`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import yaml

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import from_json, to_json
from optr.connectors.desktop.seen import Window
from optr.desk_episodes.episode import Anchor, DeskStep, targets_of, with_targets
from optr.desk_episodes.places_again import selector_of, share_of
from optr.desk_episodes.replay import Course
from optr.errors import DesktopError
from optr.spec.yaml_lines import Marked, parse_marked, read_marked

VERSION = "1"
_TEXTS = ("text", "value", "arguments", "key")
_NAME = re.compile(r"\$?\$\{([^{}]*)\}")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


def script_of(course: Course, parameters: Mapping[str, str] | None = None, name: str = "") -> str:
    """A course of steps as a script.

    Args:
        course: What was done.
        parameters: Names for texts: wherever one is typed, set, waited for or handed to a program, its name stands.
        name: What it is called.

    Raises:
        DesktopError: If a name is none, or stands for a text that is nowhere.
    """
    given = dict(parameters or {})
    for one, text in given.items():
        if not _IDENTIFIER.fullmatch(one):
            raise DesktopError(f"{one!r} is no name of a parameter; it has letters, digits and _")
        if one in course.hidden:
            raise DesktopError(f"the parameter {one!r} is a hidden text of this episode already")
        if not text or not any(text in t for s in course.steps for t in _texts(s.action)):
            raise DesktopError(f"the parameter {one!r} stands for {text!r}, which no action types or hands over")
    writing = _Writing(given, course.hidden)
    actions = [writing.entry(step) for step in course.steps]
    defaults = {**given, **{h: None for h in course.hidden if writing.uses(h)}}
    whole: dict[str, Any] = {"desktop_script": int(VERSION)}
    whole |= {"name": name} if name else {}
    whole |= {"parameters": defaults} if defaults else {}
    whole |= {"windows": writing.windows} if writing.windows else {}
    whole["actions"] = actions
    text = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    load_text(text, Path("script"), {h: "x" for h in defaults if defaults[h] is None})  # what is written can be read
    return text


def load_script(path: Path, values: Mapping[str, str] | None = None) -> Course:
    """Read a script.

    Args:
        path: Its file.
        values: Of its parameters.

    Raises:
        OptrError: If something in it is wrong (the message points at the line), a value is missing, or one is given
            for what is no parameter.
    """
    return _course(read_marked(path), values or {})


def load_text(text: str, path: Path, values: Mapping[str, str] | None = None) -> Course:
    """Read a script that came from somewhere; `path` is what errors call it. Raises as `load_script`."""
    return _course(parse_marked(text, path), values or {})


# -- writing -----------------------------------------------------------------------------------------------------


class _Writing:
    """Makes entries, and gives windows numbers.

    Attributes:
        windows: The table of them.
    """

    def __init__(self, parameters: Mapping[str, str], hidden: tuple[str, ...]) -> None:
        self.windows: dict[int, dict[str, str]] = {}
        self._numbers: dict[int, int] = {}
        self._parameters = sorted(parameters.items(), key=lambda p: -len(p[1]))
        self._hidden = hidden
        self._used: set[str] = set()

    def uses(self, name: str) -> bool:
        """Whether a hidden text stands in an entry."""
        return name in self._used

    def entry(self, step: DeskStep) -> dict[str, Any]:
        """One action."""
        action = with_targets(step.action, tuple(self._target(n) for n in step.anchors))
        frame = getattr(action, "frame", "")
        if frame.startswith("window:") and isinstance(action, a.Wait) and step.framed is not None:
            action = replace(action, frame=f"window:{self._number(step.framed)}")
        if isinstance(action, a.Focus) and step.keyboard is not None:
            action = replace(action, window=str(self._number(step.keyboard)))
        data = to_json(_with_texts(action, self._written))
        plain = {f.name: f.default for f in fields(action) if f.default is not MISSING}
        kept = {k: v for k, v in data.items() if k not in plain or getattr(action, k) != plain[k]}
        for name, window in (("keyboard", step.keyboard), ("opens", self._opened(step))):
            if window is not None and not (name == "keyboard" and (step.anchors or isinstance(action, a.Focus))):
                kept[name] = self._number(window)
        share = share_of(step.anchors[0]) if step.anchors else None
        if share is not None and isinstance(targets_of(action)[0], a.Selector):
            kept["share"] = list(share)
        return kept

    def _target(self, anchor: Anchor) -> a.Target:
        target = anchor.target
        if isinstance(target, a.Selector):
            within = self._number(anchor.window) if target.within is not None and anchor.window is not None else None
            return replace(target, within=within)
        if anchor.window is not None and (by_name := selector_of(anchor.element, anchor.window)) is not None:
            return replace(by_name, within=self._number(anchor.window))
        if anchor.window is None or anchor.pixel is None:
            return replace(target, seen=None)
        rect = anchor.window.rect
        x, y = (anchor.pixel[0] + 0.5 - rect.x) / rect.width, (anchor.pixel[1] + 0.5 - rect.y) / rect.height
        return a.Point(_share(x), _share(y), f"window:{self._number(anchor.window)}")

    def _opened(self, step: DeskStep) -> Window | None:
        """The window that a program has come up with."""
        answer = step.result.answer if step.result is not None and isinstance(step.action, a.Launch) else ""
        return Window(int(answer), "", ("", ""), 0, *_NOWHERE) if answer.isdecimal() else None

    def _number(self, window: Window) -> int:
        number = self._numbers.setdefault(window.id, len(self._numbers) + 1)
        told = {"title": window.title, "wm_class": window.wm_class[0]}
        if number not in self.windows or not any(self.windows[number].values()):
            self.windows[number] = told
        return number

    def _written(self, text: str) -> str:
        hidden = _NAME.fullmatch(text)
        if hidden and hidden[1] in self._hidden:
            self._used.add(hidden[1])
            return text
        text = text.replace("${", "$${")
        for name, value in self._parameters:
            parts = re.split(r"(\$\{\w+\})", text)
            text = "".join(p if n % 2 else p.replace(value, f"${{{name}}}") for n, p in enumerate(parts))
        return text


_NOWHERE = (a.Rect(0, 0, 1, 1), a.Rect(0, 0, 1, 1), False, 0, True)


def _share(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 6)


def _texts(action: a.DesktopAction) -> list[str]:
    values = (getattr(action, f.name) for f in fields(action) if f.name in _TEXTS)
    return [t for v in values for t in (v if isinstance(v, tuple) else (v,)) if isinstance(t, str)]


def _with_texts(action: a.DesktopAction, change: Callable[[str], str]) -> a.DesktopAction:
    changed: dict[str, Any] = {}
    for name in (f.name for f in fields(action) if f.name in _TEXTS):
        value = getattr(action, name)
        changed[name] = tuple(change(v) for v in value) if isinstance(value, tuple) else change(value)
    return replace(action, **changed) if changed else action


# -- reading -----------------------------------------------------------------------------------------------------


def _course(node: Marked, values: Mapping[str, str]) -> Course:
    known = node.fields(("desktop_script", "name", "parameters", "windows", "actions"), ("desktop_script", "actions"))
    if known["desktop_script"].text() != VERSION:
        version = known["desktop_script"]
        version.fail(f"version {version.text()} is not known; this optr reads version {VERSION}")
    filled = _filled(known.get("parameters"), values)
    windows = _windows(known.get("windows"))
    steps = [_step(entry, filled, windows) for entry in known["actions"].elements()]
    if not steps:
        known["actions"].fail("has no actions")
    return Course(tuple(steps))


def _filled(node: Marked | None, values: Mapping[str, str]) -> dict[str, str]:
    """Values of all parameters."""
    defaults: dict[str, str | None] = {}
    for name, entry in node.items() if node is not None else ():
        if not _IDENTIFIER.fullmatch(name):
            entry.fail(f"{name!r} is no name of a parameter; it has letters, digits and _")
        defaults[name] = None if entry.plain() is None else entry.text()
    unknown = sorted(set(values) - set(defaults))
    if unknown:
        raise DesktopError(f"no parameter {', '.join(unknown)}; there are: {', '.join(defaults) or 'none'}")
    whole = {**defaults, **values}
    missing = [name for name, value in whole.items() if value is None]
    if missing:
        one = missing[0]
        ways = f"--set {one}=TEXT or --secret {one}=VARIABLE"
        raise DesktopError(f"values are missing: {', '.join(missing)}; give each, as by {ways}")
    return {name: value for name, value in whole.items() if value is not None}


def _windows(node: Marked | None) -> dict[int, Window]:
    found: dict[int, Window] = {}
    for number, entry in node.items() if node is not None else ():
        if not number.isdecimal() or not int(number):
            entry.fail(f"a window has a number from 1, not {number!r}")
        told = entry.fields(("title", "wm_class"))
        title = told["title"].text() if "title" in told else ""
        wm_class = told["wm_class"].text() if "wm_class" in told else ""
        found[int(number)] = Window(int(number), title, (wm_class, wm_class.lower()), 0, *_NOWHERE)
    return found


def _step(node: Marked, values: Mapping[str, str], windows: Mapping[int, Window]) -> DeskStep:
    try:
        data = node.plain()
    except (yaml.YAMLError, ValueError, OverflowError) as err:  # `!!int abc`
        node.fail(f"is no action: {err}")
    if not isinstance(data, dict):
        node.fail("is no action; an action is a mapping with a kind")
    data = dict(data)
    keyboard = _window(data.pop("keyboard", None), windows, node)
    opened = _window(data.pop("opens", None), windows, node)
    share = _share_in(data.pop("share", None), node)
    try:
        action = _with_texts(from_json(data), lambda text: _replaced(text, values))
        action = from_json(to_json(action))  # a value may be too long, or no text at all
    except DesktopError as err:
        node.fail(str(err))
    if isinstance(action, a.Focus) and action.window.isdecimal():
        keyboard = _window(int(action.window), windows, node)
    framed = None
    if isinstance(action, a.Wait) and action.frame.startswith("window:"):
        framed = _window(int(action.frame[7:]), windows, node)
    anchors = tuple(_anchor(t, windows, node) for t in targets_of(action))
    if share is not None:
        if not anchors or not isinstance(anchors[0].target, a.Selector) or anchors[0].window is None:
            node.fail("has a share, which only a selector within a window has")
        anchors = (replace(anchors[0], share=share), *anchors[1:])
    result = a.ActionResult(True, answer=str(opened.id)) if opened is not None else None
    return DeskStep(action, "script", 0, 0, anchors, keyboard, result, framed=framed)


def _share_in(value: Any, node: Marked) -> tuple[float, float] | None:
    """Which part of an element is meant."""
    if value is None:
        return None
    numbers = isinstance(value, list) and all(type(v) in (int, float) and 0 <= v <= 1 for v in value)
    if not numbers or len(value) != 2:
        node.fail(f"share is {value!r}, expected two numbers from 0 to 1, as [0.25, 0.5]")
    return float(value[0]), float(value[1])


def _anchor(target: a.Target, windows: Mapping[int, Window], node: Marked) -> Anchor:
    if isinstance(target, a.Selector):
        return Anchor(target, None, _window(target.within, windows, node))
    number = int(target.frame[7:]) if target.frame.startswith("window:") else None
    return Anchor(target, None, _window(number, windows, node))


def _window(number: Any, windows: Mapping[int, Window], node: Marked) -> Window | None:
    if number is None:
        return None
    if not isinstance(number, int) or number not in windows:
        node.fail(f"no window {number!r} in the table of windows; there are: {', '.join(map(str, windows)) or 'none'}")
    return windows[number]


def _replaced(text: str, values: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        if found[0].startswith("$$"):
            return found[0][1:]
        if found[1] not in values:
            raise DesktopError(f"no parameter {found[1]!r}; there are: {', '.join(values) or 'none'}")
        return values[found[1]]

    return _NAME.sub(value, text)
