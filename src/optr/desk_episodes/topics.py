"""Topics of a desktop's episode, relative to its namespace, and their types."""

from __future__ import annotations

STATE = "desktop/state"
SCREEN = "screen/image_raw"
ACTION = "action"
VERDICT = "sentinel/verdict"
COMMAND = "command"
RESULT = "result"
HUMAN = "human_input"

TYPES = {
    STATE: "optr_interfaces/msg/DesktopState",
    SCREEN: "sensor_msgs/msg/Image",
    ACTION: "optr_interfaces/msg/DesktopAction",
    VERDICT: "optr_interfaces/msg/Verdict",
    COMMAND: "optr_interfaces/msg/DesktopCommand",
    RESULT: "optr_interfaces/msg/DesktopResult",
    HUMAN: "optr_interfaces/msg/DesktopInput",
}
"""Type of each."""
