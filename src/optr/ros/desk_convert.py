"""Values of a desktop as messages, by the plain fields that `optr.connectors.desktop.messages` makes of them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any, TypeVar

from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

import optr_interfaces.msg
from optr.connectors.desktop import actions as a
from optr.connectors.desktop.messages import action_of, element_fields, element_of, window_fields, window_of
from optr.connectors.desktop.seen import Element, Picture, Window
from optr.connectors.desktop.sight import selectors, targets
from optr.connectors.desktop.view import DeskView
from optr.errors import DesktopError
from optr.ros.convert import time_to_msg
from optr.sentinel import Outcome
from optr.sentinel.desk_guard import DeskVerdict
from optr_interfaces.msg import DesktopAction, DesktopCommand, DesktopElement, DesktopWindow, Verdict

M = TypeVar("M")


def to_msg(kind: type[M], fields: Mapping[str, Any]) -> M:
    """A message of a type with these fields; nested ones are mappings, times and headers nanoseconds."""
    known: Mapping[str, str] = kind.get_fields_and_field_types()  # type: ignore[attr-defined]
    made = kind()
    for name, value in fields.items():
        setattr(made, name, _value(known[name], value))
    return made


def _value(kind: str, value: Any) -> Any:
    one = kind.removeprefix("sequence<").removesuffix(">")
    if one != kind:
        return [_value(one, v) for v in value]
    if kind == "std_msgs/Header":
        return Header(stamp=time_to_msg(value))
    if kind == "builtin_interfaces/Time":
        return time_to_msg(value)
    package, _, name = kind.partition("/")
    return to_msg(getattr(optr_interfaces.msg, name), value) if package == "optr_interfaces" else value


def verdict_to_msg(proposed: DesktopAction, verdict: DeskVerdict, stamp: Time) -> Verdict:
    """What the guard made of an action; the subject of CONFIRMATION_NEEDED is the id by which it can be confirmed."""
    msg = Verdict(operator_id=proposed.operator_id, sequence=proposed.sequence, outcome=int(verdict.outcome))
    msg.header.stamp = stamp
    finding = verdict.finding
    if finding is not None:
        msg.codes, msg.subjects, msg.text = [str(finding.code)], [verdict.request or finding.subject], finding.text
        msg.values, msg.limits = array("d", [finding.value]), array("d", [finding.limit])
    return msg


def command_to_msg(
    proposed: DesktopAction, verdict: DeskVerdict, view: DeskView, window: int, stamp: Time
) -> DesktopCommand:
    """An action that is allowed, with what has to be so when it is carried out.

    Args:
        proposed: As it came.
        verdict: What the guard made of it.
        view: What the guard has seen.
        window: Of focus: the one that is meant; else 0.
        stamp: When it was judged.
    """
    msg = DesktopCommand(action=proposed, reach=verdict.reach.value if verdict.reach else "")
    msg.header.stamp = stamp
    msg.windows = [to_msg(DesktopWindow, window_fields(w)) for w in view.windows]
    msg.elements = [to_msg(DesktopElement, element_fields(view.found.get(t))) for t in targets(verdict.action)]
    msg.at_x = array("i", [pixel[0] for pixel, _ in verdict.pixels])
    msg.at_y = array("i", [pixel[1] for pixel, _ in verdict.pixels])
    msg.at_window = array("I", [window for _, window in verdict.pixels])
    msg.keyboard, msg.window = verdict.keyboard, window
    return msg


def verdict_of(msg: DesktopCommand) -> tuple[DeskVerdict, dict[a.Target, Element], tuple[Window, ...]]:
    """The verdict in a command, what each selector of its action meant, and the windows that it was judged by.

    Raises:
        DesktopError: If it is none that a sentinel sends.
    """
    action = action_of(msg.action)
    if action is None:
        raise DesktopError("a command without an action")
    places = targets(action)
    if len(msg.elements) != len(places) or not len(msg.at_x) == len(msg.at_y) == len(msg.at_window):
        raise DesktopError(f"a command to {action.kind} that does not tell what lies at each of its places")
    found = {t: e for t, m in zip(places, msg.elements, strict=True) if (e := element_of(m)) is not None}
    unseen = [s.text for s in selectors(action) if s not in found]
    if unseen:
        raise DesktopError(f"a command that does not tell what {', '.join(unseen)} means")
    if isinstance(action, a.Focus):
        if not msg.window:
            raise DesktopError(f"a command to focus {action.window!r} that does not tell which window that is")
        action = a.Focus(str(msg.window))
    at = zip(msg.at_x, msg.at_y, msg.at_window, strict=True)
    windows = tuple(window_of(w) for w in msg.windows)
    unknown = {*map(int, msg.at_window), int(msg.keyboard)} - {0, *(w.id for w in windows)}
    if unknown:
        raise DesktopError(f"a command that does not tell where window {min(unknown)} was")
    pixels = tuple(((int(x), int(y)), int(window)) for x, y, window in at)
    reach = a.ActionClass(msg.reach) if msg.reach else None
    return DeskVerdict(action, Outcome.ALLOWED, None, reach, "", pixels, int(msg.keyboard)), found, windows


def picture_to_msg(picture: Picture, frame: str, stamp: Time) -> Image:
    """A picture of the screen."""
    height, width, depth = picture.pixels.shape
    image = Image(height=height, width=width, encoding="rgb8", is_bigendian=0, step=width * depth)
    image.header.frame_id, image.header.stamp = frame, stamp
    image.data = array("B", picture.pixels.tobytes())
    return image
