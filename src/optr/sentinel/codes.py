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
    ABSTAINED = "ABSTAINED"
    # states: why the arm is held although nobody proposed anything wrong
    NO_OBSERVATION = "NO_OBSERVATION"
    NO_ACTION = "NO_ACTION"
    CLOCK_BACKWARDS = "CLOCK_BACKWARDS"
    STATE_OUT_OF_LIMITS = "STATE_OUT_OF_LIMITS"
    RECORDER_LOST = "RECORDER_LOST"
    SECOND_SENTINEL = "SECOND_SENTINEL"
    SECOND_STATE_SOURCE = "SECOND_STATE_SOURCE"
    STOP_REQUESTED = "STOP_REQUESTED"

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
