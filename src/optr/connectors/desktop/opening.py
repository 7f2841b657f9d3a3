"""A desk, opened: a desktop that is there or one of its own, under a guard that is set by name."""

from __future__ import annotations

from collections.abc import Callable

from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.session import DesktopSession
from optr.sentinel.desk_config import load_desk
from optr.sentinel.desk_guard import DeskGuard


def open_desk(
    display: str | None = None,
    settings: str = "",
    own: tuple[int, int] | None = None,
    ask: Callable[[str, float], str] | None = None,
) -> Desk:
    """Open a desk; whoever does closes it.

    Args:
        display: Of a desktop that is there; None: that of the environment.
        settings: What its guard allows: a file, or a name in config/desks; empty: what ships.
        own: Bring a desktop of this width and height up in memory instead [px].
        ask: Asks a person.

    Raises:
        OptrError: If there is no such desktop, or the settings are wrong; nothing is left running then.
    """
    guard = DeskGuard(load_desk(settings))
    session = DesktopSession.attach(display) if own is None else DesktopSession(*own)
    try:
        return Desk(session, guard, ask)
    except BaseException:
        session.close()
        raise
