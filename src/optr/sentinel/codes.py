"""Every reason the sentinel gives, by code."""

from __future__ import annotations

from enum import Enum, IntEnum


class Code(str, Enum):
    """Why a proposal was changed or not sent, or why the arm is held. The value is what travels."""

    # limits: the proposal is sent, nearer or slower
    POSITION_LIMIT = "POSITION_LIMIT"
    VELOCITY_LIMIT = "VELOCITY_LIMIT"
    STEP_LIMIT = "STEP_LIMIT"
    ACCELERATION_LIMIT = "ACCELERATION_LIMIT"
    BRAKING_DISTANCE = "BRAKING_DISTANCE"
    JERK_LIMIT = "JERK_LIMIT"
    CATCHING_UP = "CATCHING_UP"
    # refusals: the proposal is not sent, the arm ramps to rest
    WRONG_AUTHORITY = "WRONG_AUTHORITY"
    WRONG_NAMES = "WRONG_NAMES"
    WRONG_SIZE = "WRONG_SIZE"
    NOT_A_NUMBER = "NOT_A_NUMBER"
    WRONG_PERIOD = "WRONG_PERIOD"
    OBSERVATION_STALE = "OBSERVATION_STALE"
    OBSERVATION_AHEAD = "OBSERVATION_AHEAD"
    ACTION_STALE = "ACTION_STALE"
    ACTION_AHEAD = "ACTION_AHEAD"
    TOO_MANY_ROWS = "TOO_MANY_ROWS"
    SEQUENCE_REPLAYED = "SEQUENCE_REPLAYED"
    SEQUENCE_GAP = "SEQUENCE_GAP"
    WORKSPACE = "WORKSPACE"
    KEEP_OUT = "KEEP_OUT"
    SELF_COLLISION = "SELF_COLLISION"
    WORLD_COLLISION = "WORLD_COLLISION"
    NO_SUCH_CHOICE = "NO_SUCH_CHOICE"
    NOT_LEGAL = "NOT_LEGAL"
    ABSTAINED = "ABSTAINED"
    # states: why the arm is held although nobody proposed anything wrong
    OBSERVATION_LOST = "OBSERVATION_LOST"
    NO_OBSERVATION = "NO_OBSERVATION"
    NO_ACTION = "NO_ACTION"
    CLOCK_BACKWARDS = "CLOCK_BACKWARDS"
    STATE_NOT_A_NUMBER = "STATE_NOT_A_NUMBER"
    STATE_OUT_OF_LIMITS = "STATE_OUT_OF_LIMITS"
    OBSERVATION_GAP = "OBSERVATION_GAP"
    FOLLOWING_ERROR = "FOLLOWING_ERROR"
    FROZEN_SENSOR = "FROZEN_SENSOR"
    SENSOR_SILENT = "SENSOR_SILENT"
    FROZEN_IMAGE = "FROZEN_IMAGE"
    CONSTANT_IMAGE = "CONSTANT_IMAGE"
    EFFORT_LIMIT = "EFFORT_LIMIT"
    CURRENT_LIMIT = "CURRENT_LIMIT"
    TEMPERATURE_LIMIT = "TEMPERATURE_LIMIT"
    VOLTAGE_LIMIT = "VOLTAGE_LIMIT"
    RULE_FAILED = "RULE_FAILED"
    TOO_MANY_INTERVENTIONS = "TOO_MANY_INTERVENTIONS"
    PRECONDITION = "PRECONDITION"
    POSTCONDITION = "POSTCONDITION"
    RECOVERING = "RECOVERING"
    RECORDER_LOST = "RECORDER_LOST"
    ARM_NOT_READY = "ARM_NOT_READY"
    ARM_FAULT = "ARM_FAULT"
    SECOND_SENTINEL = "SECOND_SENTINEL"
    SECOND_STATE_SOURCE = "SECOND_STATE_SOURCE"
    UNKNOWN_PROPOSER = "UNKNOWN_PROPOSER"
    DEADMAN_RELEASED = "DEADMAN_RELEASED"
    STOPPED_BEFORE = "STOPPED_BEFORE"
    STOP_REQUESTED = "STOP_REQUESTED"
    # desktops: the action is not carried out
    UNKNOWN_ACTION = "UNKNOWN_ACTION"
    BAD_ACTION = "BAD_ACTION"
    BAD_VIEW = "BAD_VIEW"
    NO_SUCH_PLACE = "NO_SUCH_PLACE"
    WINDOW_FORBIDDEN = "WINDOW_FORBIDDEN"
    NO_FOCUS = "NO_FOCUS"
    REGION_FORBIDDEN = "REGION_FORBIDDEN"
    KEY_FORBIDDEN = "KEY_FORBIDDEN"
    TEXT_FORBIDDEN = "TEXT_FORBIDDEN"
    TERMINAL_FORBIDDEN = "TERMINAL_FORBIDDEN"
    SECRET_FORBIDDEN = "SECRET_FORBIDDEN"
    PROGRAM_FORBIDDEN = "PROGRAM_FORBIDDEN"
    RATE_LIMIT = "RATE_LIMIT"
    STEP_BUDGET = "STEP_BUDGET"
    TIME_BUDGET = "TIME_BUDGET"
    CLASS_FORBIDDEN = "CLASS_FORBIDDEN"
    CONFIRMATION_NEEDED = "CONFIRMATION_NEEDED"
    BUSY = "BUSY"
    NO_SENTINEL = "NO_SENTINEL"
    DISPLAY_LOST = "DISPLAY_LOST"

    def __str__(self) -> str:
        return self.value


class Response(str, Enum):
    """What is done when a rule has something to say.

    ALLOW tells and does nothing else; LIMIT sends the proposal nearer or slower; REFUSE does not send it, and the arm
    ramps to rest unless a better one comes; HOLD ramps to rest and stays there until the reason has been gone for a
    while; STOP ramps to rest and latches until somebody re-arms.
    """

    ALLOW = "allow"
    LIMIT = "limit"
    REFUSE = "refuse"
    HOLD = "hold"
    STOP = "stop"

    def __str__(self) -> str:
        return self.value


class Outcome(IntEnum):
    """What became of a proposal; numbers as in `optr_interfaces/Verdict`."""

    ALLOWED = 0
    LIMITED = 1
    REFUSED = 2
    STOPPED = 3


class GuardState(IntEnum):
    """Numbers as in `optr_interfaces/SentinelStatus`."""

    READY = 0
    HOLDING = 1
    STOPPED = 2
