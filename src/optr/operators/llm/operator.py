"""A language model that decides."""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar

from optr.errors import OperatorError
from optr.operators.choices import Choices
from optr.operators.contract import Action, Array, Operator, OperatorDescriptor
from optr.operators.llm.answer import AnswerForm
from optr.operators.llm.asking import Asking
from optr.operators.llm.budget import Spent
from optr.operators.llm.prompt import Prompt, Turn
from optr.operators.llm.settings import ModelSettings
from optr.spec import Feature, Source, Spec

_log = logging.getLogger(__name__)


def _signature() -> inspect.Signature:
    """Of a constructor that takes each setting by name, for whoever looks up which options there are."""
    kind = inspect.Parameter.KEYWORD_ONLY
    options = [inspect.Parameter(f.name, kind, default=getattr(ModelSettings(), f.name)) for f in fields(ModelSettings)]
    own = list(inspect.signature(Operator).parameters.values())
    return inspect.Signature([*own, *options])


class Llm(Operator):
    """Asks a language model, over any endpoint that speaks OpenAI's chat completions.

    The observation is told in words and numbers, without pictures. What the model answers is an action that exists and
    is legal, or the decision has failed: nothing is put in its place.

    Attributes:
        settings: Its options.
    """

    category = "llm"
    source = Source.POLICY
    slow: ClassVar[bool] = True
    __signature__ = _signature()

    def __init__(self, spec: Spec, id: str = "", name: str = "", **options: Any) -> None:
        """Make ready; nothing is sent before the first decision.

        Args:
            spec: What is observed and what an action is.
            id: As in `Operator`.
            name: As in `Operator`.
            options: As in `ModelSettings`.

        Raises:
            OperatorError: If an option is wrong, the key is not where it is said to be, or the client is not installed.
        """
        super().__init__(spec, id, name)
        self.settings = ModelSettings.of(options)
        self._asking = Asking(self.settings)
        self._form = AnswerForm(Choices(spec), self.settings.answer, self.settings.reason)
        self._prompt = Prompt(spec, self._form, self.settings, self._pictures)
        self.reset(0)

    @property
    def descriptor(self) -> OperatorDescriptor:
        return replace(super().descriptor, requires_api_key=self._asking.has_key)

    @property
    def observation_keys(self) -> tuple[str, ...]:
        pictures = [f.key for f in self._pictures]
        return tuple(f.key for f in self.spec.observations if not f.is_image or f.key in pictures)

    @property
    def spent(self) -> Spent:
        """What this episode has cost so far."""
        return self._asking.spent

    @property
    def _pictures(self) -> Sequence[Feature]:
        return ()

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self._history: dict[str, deque[Turn]] = {}
        self._rewards: dict[str, float] = {}
        self._asked = ""
        self._asking.begin_episode(seed)

    def on_step_result(
        self,
        observation: Mapping[str, Array],
        reward: float,
        terminated: bool,
        truncated: bool,
        info: Mapping[str, Any],
    ) -> None:
        self._rewards[str(info.get("agent_id", self._asked))] = float(reward)

    def close(self) -> None:
        """Close connections; a decision under way fails."""
        self._asking.close()

    def select_action(self, observation: Mapping[str, Array], info: Mapping[str, Any]) -> Action | None:
        return self._asking.decision(lambda: self._decide(observation, info))

    # -- pieces --------------------------------------------------------------------------------------------------

    def _decide(self, observation: Mapping[str, Array], info: Mapping[str, Any]) -> Action:
        agent = self._asked = str(info.get("agent_id", ""))
        legal = self._form.choices.legal(observation)
        if legal == ():
            raise OperatorError("nothing is legal now")
        missing = [f.key for f in self._pictures if f.key not in observation]
        if missing:
            raise OperatorError(f"the observation lacks {', '.join(missing)}")
        history = self._history.setdefault(agent, deque(maxlen=self.settings.history))
        turn = self._prompt.turn(observation, info, legal, self._rewards.pop(agent, None))
        messages = self._prompt.messages(history, turn)
        action = self._asking.until_read(
            self.id,
            messages,
            self._form.fields(legal),
            lambda reply: self._form.read(reply, observation),
            self._form.how(),
        )
        history.append(replace(turn, answer=self._form.told(action)))
        return action


class Vlm(Llm):
    """Asks a language model that sees: as `llm`, with the pictures of the observation."""

    category = "vlm"

    def __init__(self, spec: Spec, id: str = "", name: str = "", **options: Any) -> None:
        if not spec.images:
            raise OperatorError(
                f"vlm needs pictures, and {spec.name} observes none: make the environment with render, or use llm"
            )
        super().__init__(spec, id, name, **options)

    @property
    def _pictures(self) -> Sequence[Feature]:
        return tuple(self.spec.images.values())
