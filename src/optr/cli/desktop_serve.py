"""`optr desktop serve`: the endpoint that OSWorld's agents speak to, in front of a guarded desktop."""

from __future__ import annotations

import json
import os
import signal

import click

from optr.cli.desktop_common import desk_option, display_option, own_option, tell_how_to_stop


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; others need a token.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--token-env", default="", help="Environment variable that holds the token each request has to bring.")
@own_option
@display_option
@desk_option
def serve(host: str, port: int, token_env: str, own: tuple[int, int] | None, display: str | None, settings: str) -> int:
    """Let agents of OSWorld see a desktop and act on it, until a signal comes.

    Their PyAutoGUI code is read and never run; each action passes the guard. The first line of output is JSON: `url`.
    """
    from optr.connectors.desktop.guest_server import GuestServer
    from optr.connectors.desktop.opening import open_desk
    from optr.end_signal import EndSignal
    from optr.errors import DesktopError
    from optr.network import is_loopback

    token = os.environ.get(token_env, "") if token_env else ""
    if token_env and not token:
        raise DesktopError(f"no token in the environment variable {token_env}")
    if not token and not is_loopback(host):
        raise DesktopError(
            f"whoever reaches {host} could act on this desktop: --token-env has to name the environment variable "
            "that holds a token"
        )
    ended = EndSignal(signal.SIGINT, signal.SIGTERM)
    with open_desk(display, settings, own) as desk, GuestServer(desk, host, port, token) as server:
        if own is None:
            tell_how_to_stop(desk)
        click.echo(json.dumps({"url": server.url, "display": desk.session.display}))
        ended.wait()
    return 0
