"""The error tree. Each child says what the caller could do next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class OptrError(Exception):
    """Root of every error that optr raises on purpose."""


class SpecError(OptrError):
    """A spec file is wrong: mend the file at the line that the message names."""


class ModelError(OptrError):
    """A robot or scene model cannot be used: mend the model or the spec that names it."""


class UnknownNameError(OptrError):
    """Nothing of that name is installed: choose one of those that the message lists.

    Attributes:
        kind: What was looked for, for example `operator`.
        name: The name that came.
        known: The names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(sorted(known))
        listed = ", ".join(self.known) or "none"
        super().__init__(f"no {kind} named {name!r}; there are: {listed}" + (f" ({hint})" if hint else ""))


class PluginError(OptrError):
    """An installed extension is broken: mend or remove the distribution that the message names."""


class OperatorError(OptrError):
    """An operator cannot decide on this observation, or decided on something that is no action."""


class DecisionTimeoutError(OperatorError):
    """An operator did not decide in time: give it more, or ask a quicker one."""


class InvalidDecisionError(OperatorError):
    """An operator decided on something that is no action here; the message says what it answered."""


class SeveralFailedError(OperatorError):
    """Of several operators that were told one thing, some failed; the others have done it.

    Attributes:
        failures: What went wrong, by the id of who failed.
    """

    def __init__(self, what: str, failures: Mapping[str, Exception]) -> None:
        self.failures = dict(failures)
        super().__init__(f"{what}: {'; '.join(str(err) for err in failures.values())}")


class EnvError(OptrError):
    """An environment cannot be made or stepped: the message names what is missing, and how to get it."""


class WorkerError(OperatorError):
    """A worker process cannot be started, ended by itself, or breaks the protocol."""


class ActionError(OptrError):
    """An action does not fit the spec: wrong names, wrong size, not a number."""


class ObservationError(OptrError):
    """A message does not fit the feature that it was read for."""


class EpisodeError(OptrError):
    """An episode cannot be recorded or read."""


class ExperimentError(OptrError):
    """An experiment cannot be run, gone on with or read as asked: the message says what stands against it."""


class PolicyError(OptrError):
    """A trained policy cannot be loaded, does not fit the robot, or answers something that is no action."""


class PolicyTimeoutError(PolicyError, DecisionTimeoutError):
    """A policy did not answer in time: give it more, or ask a quicker one."""


class TrainingError(OptrError):
    """A policy cannot be trained as asked."""


class GuardError(OptrError):
    """The sentinel refuses a request made to itself, such as a re-arm while the cause persists."""


class StackError(OptrError):
    """A stack of nodes cannot be described or brought up as asked."""


class DesktopError(OptrError):
    """A desktop cannot be seen or acted on: the message says what came, what was expected, and what there is."""


class NotDoneError(OptrError):
    """An action was refused, or could not be carried out whole.

    Attributes:
        code: Of the rule that refused it, or of what went wrong; empty: there is no code for it.
        result: What came of it, if anything did.
    """

    def __init__(self, text: str, code: str = "", result: object = None) -> None:
        self.code = code
        self.result = result
        super().__init__(f"{code}: {text}" if code else text)
