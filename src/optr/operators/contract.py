"""The one question every operator answers: given an observation, what action?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from optr.spec import Source, Spec

Array = npt.NDArray[Any]
Action = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OperatorDescriptor:
    """Who an operator is; fields as in `optr_interfaces/OperatorDescriptor`."""

    id: str
    display_name: str
    description: str = ""
    category: str = ""
    supports_training: bool = False
    requires_api_key: bool = False


class Decider:
    """What everybody who decides has, whatever about: a name, chance by a seed, and an end.

    Attributes:
        id: Unique among the operators of a graph; authority is given by it.
        name: For people.
        rng: Random numbers, seeded by `reset`; use no others, so that a seed decides everything.
        run_id: The run that it takes part in, set by whoever runs it; empty: none.
        category: What kind it is, for people; nothing branches on it.
        source: What its decisions are recorded as.
        slow: Whether it waits for others (a process, a server, a person) rather than computes: where several decide at
            once, it is asked in a thread of its own.
        supports_training: Whether it learns.
        requires_api_key: Whether it needs a key of somebody's.
    """

    category: ClassVar[str] = ""
    source: ClassVar[Source] = Source.UNKNOWN
    slow: ClassVar[bool] = False
    supports_training: ClassVar[bool] = False
    requires_api_key: ClassVar[bool] = False

    run_id: str = ""

    def __init__(self, id: str = "", name: str = "") -> None:
        self.id = id or _snake(type(self).__name__)
        self.name = name or type(self).__name__
        self.rng = np.random.default_rng(0)

    @property
    def descriptor(self) -> OperatorDescriptor:
        """Who this is."""
        doc = (type(self).__doc__ or "").strip().partition("\n")[0]
        return OperatorDescriptor(self.id, self.name, doc, self.category, self.supports_training, self.requires_api_key)

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know of it before it decides, a line each; by default nothing."""
        return ()

    @property
    def figures(self) -> Mapping[str, Any]:
        """What it measures of itself, for diagnostics: name to number or text; by default nothing."""
        return {}

    def reset(self, seed: int) -> None:
        """Begin an episode anew. The same seed and the same observations give the same actions."""
        self.rng = np.random.default_rng(seed)

    def close(self) -> None:
        """Let go of processes, devices and connections. It is not asked again; closing twice does nothing."""
        return


class Operator(Decider, ABC):
    """A decision maker: a person, a script, a policy, a language model.

    Subclasses write `select_action`. A constructor takes the spec first; all else has a default.

    Attributes:
        spec: What is observed and what an action is.
    """

    def __init__(self, spec: Spec, id: str = "", name: str = "") -> None:
        self.spec = spec
        super().__init__(id, name)

    @classmethod
    def for_spec(cls, spec: Spec) -> type[Operator]:
        """The class to make for a spec, where one name stands for several; this one, unless overridden."""
        return cls

    @property
    def observation_keys(self) -> tuple[str, ...]:
        """Features that it must see to decide; by default all but images and the scene."""
        return tuple(
            f.key for f in self.spec.observations if not f.is_image and f not in self.spec.environment.values()
        )

    @abstractmethod
    def select_action(self, observation: Mapping[str, Array], info: Mapping[str, Any]) -> Action | None:
        """Decide.

        Args:
            observation: Array by feature key, as the spec describes: `observation.state` has shape (n,).
            info: `stamp` (capture time [s]), `step` (since the reset), `task` and whatever else is known; in a graph,
                `followed`: whether the arm follows this operator now, or is held, or follows somebody else, and
                `realtime`: whether the world goes on while it decides; where there are several agents, `agent_id`: for
                which of them.

        Returns:
            One action, shape (n,), in the order, units and frames of `spec.action`; or several that follow one
            another at the action rate, shape (rows, n); or None to abstain.

        Raises:
            DecisionTimeoutError: If it was not there in time.
            InvalidDecisionError: If what it thought of is no action here.
            OperatorError: If it cannot decide for another reason. It never puts another action in place of the one
                that it does not have: what is carried out then is chosen, and recorded, by whoever runs it.
        """

    def on_step_result(
        self,
        observation: Mapping[str, Array],
        reward: float,
        terminated: bool,
        truncated: bool,
        info: Mapping[str, Any],
    ) -> None:
        """Told what came of the last action; for operators that learn. Does nothing here."""
        return


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
