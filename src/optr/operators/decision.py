"""One decision of one operator: asked, checked, and put down to its operator where it fails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from optr.errors import DecisionTimeoutError, InvalidDecisionError, OperatorError, WorkerError
from optr.operators.contract import Action, Array, Decider, Operator
from optr.spec import Source
from optr.spec.values import all_finite

_SHOWN = 200
_TOLD = 500
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_NUMBERS = np.dtype(np.float64)
_KINDS = (DecisionTimeoutError, InvalidDecisionError, WorkerError)


def failure_source(err: Exception) -> Source:
    """What is recorded of an action that was carried out in place of a decision that failed like this."""
    if isinstance(err, DecisionTimeoutError):
        return Source.TIMEOUT
    return Source.INVALID if isinstance(err, InvalidDecisionError) else Source.FALLBACK


def failure_of(operator: Decider, err: Exception | SystemExit, doing: str = "") -> OperatorError:
    """An operator's failure as its own, of the same kind; raise it `from err`.

    Args:
        operator: Who failed.
        err: With what.
        doing: What it was told to do, for example `to reset`; empty: to decide.
    """
    kind = next((k for k in _KINDS if isinstance(err, k)), OperatorError)
    told = str(err) if isinstance(err, OperatorError) else f"{type(err).__name__}: {err}"
    text = f"operator {operator.id!r} failed{f' {doing}' if doing else ''}: {told}"
    return kind(told_reason(text))


def told_reason(text: str, most: int = _TOLD) -> str:
    """A reason as it can be sent, logged and kept: of bounded length, and without what differs from run to run."""
    # Halves of characters (a file name, JSON of a worker) can be neither sent nor logged.
    text = _ADDRESS.sub("", text).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= most else f"{text[:most]}…"


def decide(operator: Operator, observation: Mapping[str, Array], info: Mapping[str, Any]) -> Action | None:
    """Ask an operator for one decision, and check it.

    Returns:
        Rows of actions, shape (rows, n), rows > 0, all finite; or None: it abstains.

    Raises:
        DecisionTimeoutError: If it was late.
        InvalidDecisionError: If its answer is no action of its spec.
        OperatorError: If it failed otherwise, whatever it raised.
    """
    action = _asked(operator, observation, info)
    return None if action is None else _rows(operator, action)


def decide_first(operator: Operator, observation: Mapping[str, Array], info: Mapping[str, Any]) -> Action | None:
    """The first row of what `decide` returns, shape (n,); the same errors."""
    action = _asked(operator, observation, info)
    if action is None:
        return None
    plain = type(action) is np.ndarray and action.dtype is _NUMBERS and action.ndim == 1  # as nearly always
    if plain and action.size == len(operator.spec.action.channels) and all_finite(action):
        return action
    first: Action = _rows(operator, action)[0]
    return first


def _asked(operator: Operator, observation: Mapping[str, Array], info: Mapping[str, Any]) -> Action | None:
    try:
        return operator.select_action(observation, info)
    except (Exception, SystemExit) as err:  # an operator is anybody's code; its failure is reported as its own
        raise failure_of(operator, err) from err


def _rows(operator: Operator, action: Any) -> npt.NDArray[np.float64]:
    names = operator.spec.action.names
    width = len(names)
    try:
        answered = np.asarray(action)
        if answered.dtype.kind == "c":
            raise TypeError("complex")  # NumPy would drop the half of it
        rows = np.asarray(answered, dtype=np.float64)
    except Exception as err:  # an answer is anything at all: too large a number, an object that refuses
        raise InvalidDecisionError(
            f"operator {operator.id!r} answered {_short(action)}, which is no array of real numbers"
        ) from err
    if rows.ndim == 1:
        rows = rows[None, :]
    if rows.ndim != 2 or rows.shape[1] != width or not len(rows):
        raise InvalidDecisionError(
            f"operator {operator.id!r} answered an array of shape {np.shape(action)}; expected ({width},) or "
            f"(rows, {width}) for {', '.join(names)}"
        )
    if not all_finite(rows[0] if len(rows) == 1 else rows):
        raise InvalidDecisionError(f"operator {operator.id!r} answered {_short(action)}, which is not finite")
    return rows


def _short(answer: Any) -> str:
    """An answer for people: somebody's may be a megabyte."""
    try:
        text = _ADDRESS.sub("", repr(answer))
    except Exception:  # anybody's code, and a whole number may be too long to be told
        text = f"something of type {type(answer).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"
