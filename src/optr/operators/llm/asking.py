"""A model asked until what it answers can be read, within a budget: what every operator of a language model does."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from optr.errors import DecisionTimeoutError, InvalidDecisionError, OperatorError
from optr.operators.llm.budget import Budget, Spent
from optr.operators.llm.endpoint import Endpoint, EndpointError
from optr.operators.llm.prompt import tokens_of
from optr.operators.llm.reply import Reply
from optr.operators.llm.secret import load_secret, without
from optr.operators.llm.settings import ModelSettings

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Messages = Sequence[Mapping[str, Any]]


class Asking:
    """Owns the connection to one model, its key and its budget.

    Attributes:
        settings: Its options.
        has_key: Whether it needs one.
    """

    def __init__(self, settings: ModelSettings) -> None:
        """Make ready; nothing is sent before the first decision.

        Raises:
            OperatorError: If the key is not where it is said to be, or the client is not installed.
        """
        self.settings = settings
        self._secret = load_secret(settings.key_variable, settings.key_file)
        self.has_key = self._secret is not None
        self._endpoint = Endpoint(settings, self._secret)
        self._budget = Budget(settings, time.monotonic)
        self._one_at_a_time = threading.Lock()
        self._closed = threading.Event()
        self._seed = 0

    @property
    def spent(self) -> Spent:
        """What this episode has cost so far."""
        return replace(self._budget.spent)

    def begin_episode(self, seed: int) -> None:
        """Everything anew."""
        self._seed = seed
        self._budget.begin_episode()

    def close(self) -> None:
        """Close connections; a decision under way fails."""
        self._closed.set()
        self._endpoint.close()

    def decision(self, decide: Callable[[], _T]) -> _T:
        """Make one decision within its budget; what it fails with holds no key.

        Raises:
            OperatorError: As `decide` does.
        """
        with self._one_at_a_time:
            failure: OperatorError | None = None
            self._budget.begin_decision()
            try:
                return decide()
            except OperatorError as err:
                failure = type(err)(without(self._secret, err))
            finally:
                self._budget.end_decision()
        raise failure  # from here, so that it drags along no context that could hold a key

    def until_read(
        self, who: str, messages: Messages, fields: Mapping[str, Any], read: Callable[[Reply], _T], how: str
    ) -> _T:
        """Ask, and ask again for what cannot be read, as often as the settings allow.

        Args:
            who: Asks, for the log.
            messages: What is asked.
            fields: Further ones of the request.
            read: Makes a decision of an answer; raises an InvalidDecisionError where there is none in it.
            how: It is to answer, told again where it did not.

        Raises:
            OperatorError: If nothing could be read.
        """
        tried = self.settings.attempts
        for attempt in range(1, tried + 1):
            try:
                reply = self._ask(messages, fields)
                return read(reply)
            except EndpointError as err:
                self._wait(attempt, err)
                problem = str(err)
            except InvalidDecisionError as err:
                problem = f"no action in what the model answers: {err}"
                if attempt == tried:
                    raise InvalidDecisionError(self._told(problem, attempt)) from None
                messages = _corrected(messages, reply, str(err), how)
            _log.info("%s: attempt %d of %d: %s", who, attempt, tried, without(self._secret, problem))
        raise AssertionError("the last attempt answers or raises")

    def _ask(self, messages: Messages, fields: Mapping[str, Any]) -> Reply:
        s = self.settings
        prompt = tokens_of(messages)
        most = self._budget.tokens_of_answer(prompt)
        seconds = self._budget.seconds_left()
        named = s.token_field or ("max_completion_tokens" if s.is_openai else "max_tokens")
        body: dict[str, Any] = {"model": s.model, "messages": messages, named: most, **fields}
        if s.temperature is not None:
            body["temperature"] = s.temperature
        if s.send_seed:
            body["seed"] = self._seed
        if s.extra:
            body["extra_body"] = dict(s.extra)
        try:
            reply = self._endpoint.ask(body, min(seconds, s.request_timeout_s) if s.request_timeout_s else seconds)
        except EndpointError as err:
            self._budget.spend(prompt if err.late else 0, 0)  # what was cut off is paid for all the same
            raise
        given = reply.prompt_tokens, reply.completion_tokens
        said = len(reply.content) + sum(len(c.arguments) for c in reply.calls)
        self._budget.spend(prompt if given[0] is None else given[0], said // 3 + 1 if given[1] is None else given[1])
        return reply

    def _wait(self, attempt: int, failed: EndpointError) -> None:
        """Wait before the next attempt.

        Raises:
            OperatorError: If there is none: it would not help, be one too many, or come too late.
        """
        s, told = self.settings, self._told(str(failed), attempt)
        if not failed.again or attempt == s.attempts:
            raise DecisionTimeoutError(told) if failed.late else OperatorError(told)
        pause = s.backoff_s * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)  # apart from others that wait as well
        pause = max(pause, failed.wait_s)
        try:
            left = self._budget.seconds_left()
        except DecisionTimeoutError as err:
            raise DecisionTimeoutError(f"{err}: {told}") from None
        if pause >= left:
            raise DecisionTimeoutError(f"{told}; the next would begin {pause:.3g} s from now, {left:.3g} s are left")
        if self._closed.wait(pause):
            raise OperatorError("closed while it waited")

    def _told(self, problem: str, attempts: int) -> str:
        return f"{problem} (model {self.settings.model}, {attempts} attempt{'s' if attempts > 1 else ''})"


def _corrected(messages: Messages, reply: Reply, problem: str, how: str) -> Messages:
    """The messages, with what was wrong about the last answer, which is put as text whatever it was."""
    said = reply.content or "; ".join(c.arguments for c in reply.calls) or "(nothing)"
    ask = f"That was no action that can be done now: {problem}. {how}"
    return [*messages, {"role": "assistant", "content": said[:2000]}, {"role": "user", "content": ask}]
