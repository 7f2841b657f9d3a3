"""What others have published on MiniWoB++. Tasks, limits and actions differ: read them beside, not against ours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One number.

    Attributes:
        who: Whose, and how it was made.
        tasks: How many tasks it is the mean over.
        success: Share of episodes that were done.
        source: Where it is written.
    """

    who: str
    tasks: int
    success: float
    source: str


_AGENTLAB = "AgentLab, journal of 09/2024"
_WEBGUM = "arXiv 2305.11854"

PUBLISHED: tuple[Published, ...] = (
    Published("GPT-4o mini", 125, 0.546, _AGENTLAB),
    Published("GPT-4o", 125, 0.656, _AGENTLAB),
    Published("CC-Net, copies people", 56, 0.320, _WEBGUM),
    Published("WebN-T5, copies people", 56, 0.484, _WEBGUM),
    Published("people", 56, 0.935, _WEBGUM),
    Published("CC-Net, and by reward", 56, 0.935, _WEBGUM),
    Published("RCI, GPT-4", 56, 0.940, _WEBGUM),
    Published("WebGUM, copies", 56, 0.942, _WEBGUM),
    Published("HTML-T5++", 56, 0.952, "arXiv 2311.18751"),
)
"""By the tasks, then by success.

The first two are of the same tasks, seeds (five of each), steps (ten) and success (a reward above zero) as ours:
`reproducibility_journal.csv` of github.com/ServiceNow/AgentLab, 625 of 625 episodes. Their actions name elements of the
page; ours are given by pointer and keys.
"""
