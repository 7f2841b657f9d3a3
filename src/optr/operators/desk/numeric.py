"""Any operator of numbers on a desktop: what is seen and done as vectors, by a spec like that of a robot or a game."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from optr.connectors.desktop import actions as a
from optr.errors import InvalidDecisionError, OperatorError
from optr.operators.contract import Array, Operator, OperatorDescriptor
from optr.operators.decision import decide_first, failure_of
from optr.operators.desk.contract import PICTURE, POINTER, WINDOWS, DeskOperator
from optr.operators.desk.picture import scaled
from optr.operators.registry import make_operator
from optr.spec import ACTION, STATE, Channel, Feature, Spec

_TENSOR = "optr_interfaces/msg/Tensor"
_IMAGE = "sensor_msgs/msg/Image"
_RATE = 10.0
_MAX_AGE_S = 1.0

KEYS = (
    "enter", "tab", "escape", "backspace", "delete", "space", "up", "down", "left", "right", "home", "end", "pageup",
    "pagedown", *"abcdefghijklmnopqrstuvwxyz0123456789.,;/-=",
)  # fmt: skip
"""What the channel `key` counts through."""

KINDS = ("nothing", "move", "click", "double_click", "right_click", "drag", "scroll", "key", "done")
"""What the channel `kind` counts through."""

_NOTCHES = 10.0


def desk_spec(width: int = 320, height: int = 200) -> Spec:
    """A desktop in numbers.

    Observed: `observation.state`, shape (8,): the pointer (x, y), the window that has the keyboard (left, top, width,
    height), each a share of the screen, 0 to 1, zeros where there is none; whether the last action was carried out, and
    whether something changed by it (0 or 1). `observation.images.screen`: the screen, RGB, `width` x `height` large.

    An action, shape (8,): `kind` and `key` count through `KINDS` and `KEYS` (the nearest whole number counts); `x`, `y`
    and `to_x`, `to_y` are shares of the screen, 0 to 1, the latter two of `drag`; `dx`, `dy` are notches of the wheel,
    -10 to 10, right and down positive.

    Args:
        width: Of the picture [px].
        height: Of the picture [px].
    """
    seen = ("pointer_x", "pointer_y", "window_x", "window_y", "window_width", "window_height", "executed", "changed")
    state = tuple(Channel(name, "1", 0.0, 1.0) for name in seen)
    action = (
        Channel("kind", "1", 0.0, len(KINDS) - 1.0, labels=KINDS),
        *(Channel(name, "1", 0.0, 1.0) for name in ("x", "y", "to_x", "to_y")),
        *(Channel(name, "1", -_NOTCHES, _NOTCHES) for name in ("dx", "dy")),
        Channel("key", "1", 0.0, len(KEYS) - 1.0, labels=KEYS),
    )
    features = (
        Feature(STATE, "observation/state", _TENSOR, (len(state),), "float32", _RATE, _MAX_AGE_S, channels=state),
        Feature(PICTURE, "observation/images/screen", _IMAGE, (height, width, 3), "uint8", _RATE, _MAX_AGE_S),
        Feature(ACTION, "command", _TENSOR, (len(action),), "float64", _RATE, _MAX_AGE_S, channels=action),
    )
    return Spec(
        "desktop", Path("desktop"), {f.key: f for f in features}, "A desktop: pointer, wheel and keys",
        noop=(0.0,) * len(action),
    )  # fmt: skip


class Numeric(DeskOperator):
    """Puts an operator of numbers in front of a desktop: `random`, `policy`, or any other that takes its spec."""

    category = "numeric"

    def __init__(
        self,
        operator: str = "random",
        options: Mapping[str, Any] | None = None,
        width: int = 320,
        height: int = 200,
        id: str = "",
        name: str = "",
    ) -> None:
        """Make the operator.

        Args:
            operator: Its name.
            options: Its options.
            width: Of the picture that it sees [px].
            height: Of the picture that it sees [px].
            id: As in `Decider`.
            name: As in `Decider`.

        Raises:
            OptrError: If there is no such operator, or it cannot work with this spec.
        """
        super().__init__(id, name)
        if not (8 <= width <= 4096 and 8 <= height <= 4096):
            raise OperatorError(f"a picture of {width} x {height} pixels; expected 8 to 4096 each way")
        self.spec = desk_spec(width, height)
        self._inner = make_operator(operator, self.spec, **dict(options or {}))
        self.source = self._inner.source  # type: ignore[misc]
        self.slow = self._inner.slow  # type: ignore[misc]
        pictured = PICTURE in self._inner.observation_keys
        self.observation_keys = (*self._needed, PICTURE) if pictured else self._needed  # type: ignore[misc]
        self._last: a.ActionResult | None = None

    _needed: ClassVar[tuple[str, ...]] = (WINDOWS, POINTER)

    @property
    def inner(self) -> Operator:
        """Who decides."""
        return self._inner

    @property
    def descriptor(self) -> OperatorDescriptor:
        inner = self._inner.descriptor
        return OperatorDescriptor(
            self.id, self.name, f"{inner.display_name} on a desktop: {inner.description}", self.category,
            inner.supports_training, inner.requires_api_key,
        )  # fmt: skip

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self._last = None
        self._inner.reset(seed)

    def close(self) -> None:
        """Let go of what it needs."""
        self._inner.close()

    def select_action(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> a.DesktopAction | None:
        self._last = info.get("last_result") or self._last
        about = {k: info[k] for k in ("stamp", "step", "task") if k in info}
        vector = decide_first(self._inner, self._numbers(observation, info), about)
        return None if vector is None else action_of(self.spec, vector)

    def on_step_result(self, action: a.DesktopAction, result: a.ActionResult, info: Mapping[str, Any]) -> None:
        """Passed on without a reward, of which a desktop knows none."""
        self._last = result
        over = isinstance(action, a.Done | a.Fail)
        try:
            self._inner.on_step_result({}, 0.0, over, False, {"step": info.get("step", 0)})
        except Exception as err:  # an operator is anybody's code; its failure is reported as its own
            raise failure_of(self._inner, err, "in on_step_result") from err

    def _numbers(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Array]:
        """What is seen, as the spec has it."""
        missing = [key for key in self.observation_keys if key not in observation]
        if missing:
            raise OperatorError(f"the observation lacks {', '.join(missing)}")
        width, height = info["size"]
        x, y = observation[POINTER]
        focused = next((w.rect for w in observation[WINDOWS] if w.focused), a.Rect(0, 0, 0, 0))
        state = np.array(
            [x / width, y / height, focused.x / width, focused.y / height, focused.width / width,
             focused.height / height, self._last is not None and self._last.executed,
             self._last is not None and self._last.changed is not None],
            dtype=np.float32,
        )  # fmt: skip
        out: dict[str, Array] = {STATE: np.clip(state, 0.0, 1.0)}
        if PICTURE in observation:
            rows, columns, _ = self.spec.features[PICTURE].shape
            out[PICTURE] = scaled(observation[PICTURE], columns, rows)
        return out


def action_of(spec: Spec, vector: Array) -> a.DesktopAction | None:
    """The action of a desktop that a vector stands for; None: it stands for nothing.

    Args:
        spec: As of `desk_spec`.
        vector: Shape (8,).

    Raises:
        InvalidDecisionError: If a number is beyond its limits.
    """
    given: dict[str, float] = {}
    for channel, value in zip(spec.action.channels, vector.tolist(), strict=True):
        low, high = float(channel.low or 0.0), float(channel.high or 0.0)
        if not low <= value <= high:
            raise InvalidDecisionError(f"{channel.name} is {value:.6g}, expected {low:g} to {high:g}")
        given[channel.name] = value
    kind = KINDS[round(given["kind"])]
    at, to = a.Point(given["x"], given["y"]), a.Point(given["to_x"], given["to_y"])
    made: Mapping[str, a.DesktopAction | None] = {
        "nothing": None,
        "move": a.Move(at),
        "click": a.Click(at),
        "double_click": a.Click(at, count=2),
        "right_click": a.Click(at, "right"),
        "drag": a.Drag((at, to)),
        "scroll": _scroll(at, round(given["dx"]), round(given["dy"])),
        "key": a.Key(KEYS[round(given["key"])]),
        "done": a.Done(),
    }
    return made[kind]


def _scroll(at: a.Point, dx: int, dy: int) -> a.Scroll | None:
    """Turn the wheel; None: by nothing."""
    return a.Scroll(at, dx, dy) if dx or dy else None
