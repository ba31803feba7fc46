"""Who may come in, what they may say, and how fast: this stands between the network and viser.

viser serves whoever reaches it. It looks at neither Host nor Origin, knows no token, and takes every message of its
protocol from every browser, also those that open a tunnel to the outside, pile up parts of an upload, or set any
attribute of a widget. It has no hook for changing that. Its server, though, is one of the library websockets, which
documents two: ``process_request`` sees every request before it is answered, and ``create_connection`` makes the
connections that messages come through. :func:`start_server` gives both to the server that viser starts, and stops it
again if they did not arrive, so that a version of viser that works otherwise is not served unguarded.

A proxy in front of viser would need no such thing, but viser's own port behind it would stay open to every user and
every page on this machine.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import http
import io
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import viser
import websockets.asyncio.server
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from stavatar.errors import InputError
from stavatar.viewer.address import Address
from stavatar.viewer.messages import MOST_BYTES, accepted

MOST_BROWSERS = 64
MOST_CONNECTIONS = 256
"""Of all kinds, also those that have not asked for anything yet."""

MESSAGES_PER_SECOND = 100.0
"""Of one browser; what comes faster waits. viser's page sends up to fifty."""

_BURST = 200
_PROTOCOL = re.compile(r"viser-v[\w.+-]{1,40}", re.ASCII)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

ProcessRequest = Callable[[ServerConnection, Request], Response | None]


class Guard:
    """Lets in whoever knows the token.

    Args:
        address: where is served.

    Attributes:
        token: the first and only part of the path, new for every server.
        connections: those that are open.
        offered: tells of a widget of the page, by its number, and a value whether it can be set to that; nothing can be
            set until this is given.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.token = secrets.token_urlsafe(18)
        self.connections: set[ServerConnection] = set()
        self.offered: Callable[[str, object], bool] = lambda uuid, value: False

    @property
    def url(self) -> str:
        return f"{self.address.url}/{self.token}/"

    @property
    def url_elsewhere(self) -> str:
        return f"{self.address.url_elsewhere}/{self.token}/"

    def before(self, serve_page: ProcessRequest) -> ProcessRequest:
        """A ``process_request`` that refuses strangers and has viser answer the others."""

        def process_request(connection: ServerConnection, request: Request) -> Response | None:
            refusal = self._refusal(request)
            if refusal is not None:
                return connection.respond(http.HTTPStatus.FORBIDDEN, refusal + "\n")
            if "Upgrade" in request.headers:
                if not _PROTOCOL.fullmatch(", ".join(request.headers.get_all("Sec-WebSocket-Protocol"))):
                    return connection.respond(http.HTTPStatus.BAD_REQUEST, "only the viewer's page is spoken to here\n")
                if len(connection.server.connections) >= MOST_BROWSERS:
                    return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many browsers look already\n")
                return None
            # viser's page is one file. It is asked for by a path of ours, so that none of theirs is ever looked up.
            response = serve_page(connection, dataclasses.replace(request, path="/"))
            assert response is not None
            for name, value in _HEADERS.items():
                response.headers[name] = value
            return response

        return process_request

    def _refusal(self, request: Request) -> str | None:
        """Why a request is refused, or None."""
        hosts, origins = request.headers.get_all("Host"), request.headers.get_all("Origin")
        if len(hosts) != 1 or not self.address.goes_by(hosts[0]):
            return "this is not the server's name: open the address that the program printed"
        # Browsers name the page that asks; programs need not.
        if len(origins) > 1 or any(origin.lower() not in _origins(hosts[0]) for origin in origins):
            return "another page may not speak to the viewer"
        path = request.path.partition("?")[0].strip("/")
        if not hmac.compare_digest(path.encode(), self.token.encode()):
            return "open the whole address that the program printed: its last part lets you in"
        return None

    def connection(self, *arguments: Any, **options: Any) -> ServerConnection:
        """A ``create_connection``."""
        return _Connection(self, *arguments, **options)


def _origins(host: str) -> tuple[str, str]:
    """Of pages that come from here; https where something in front of this server encrypts."""
    return f"http://{host.lower()}", f"https://{host.lower()}"


class _Connection(ServerConnection):
    """Gives viser what a browser may say, and not faster than it should."""

    def __init__(self, guard: Guard, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._guard = guard
        self._allowance = Allowance(MESSAGES_PER_SECOND, _BURST)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._guard.connections.add(self)
        if len(self._guard.connections) > MOST_CONNECTIONS:
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._guard.connections.discard(self)
        super().connection_lost(error)

    async def recv(self, decode: bool | None = None) -> bytes:  # type: ignore[override]
        """The next message that is accepted; others are passed over."""
        while True:
            message = await super().recv(decode)
            # While this waits, nothing is read: what the browser sends piles up on its own side.
            await asyncio.sleep(self._allowance.wait(time.monotonic()))
            clean = accepted(message, self._guard.offered)
            if clean is not None:
                return clean


class Allowance:
    """So many at once, and so many in every second after.

    Args:
        rate: per second.
        burst: at once.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = float(burst), -float("inf")

    def wait(self, now: float) -> float:
        """Seconds to wait before the next one, which comes at `now`, is taken."""
        self._left = min(float(self._burst), self._left + (now - self._at) * self._rate) - 1
        self._at = now
        return max(0.0, -self._left / self._rate)


def start_server(guard: Guard, label: str) -> viser.ViserServer:
    """Start viser behind a guard, without its banner.

    Raises:
        InputError: this version of viser does not take the guard.
    """
    with _given_to_viser(guard) as taken, redirect_stdout(io.StringIO()):
        server = viser.ViserServer(host=guard.address.host, port=guard.address.port, label=label, verbose=False)
        if not taken:
            server.stop()
            raise InputError(f"viser {viser.__version__} cannot be guarded: install another one, such as viser 1.1.1")
    return server


@contextmanager
def _given_to_viser(guard: Guard) -> Iterator[list[bool]]:
    """While this lasts, a websockets server that is started is the guard's; yields what is filled once one was."""
    original = websockets.asyncio.server.serve
    taken: list[bool] = []

    class Guarded(original):  # type: ignore[valid-type, misc]
        def __init__(
            self, handler: Any, host: object, port: object, *, process_request: ProcessRequest, **options: Any
        ) -> None:
            options |= {
                "sock": guard.address.listening,
                "process_request": guard.before(process_request),
                "create_connection": guard.connection,
                "max_size": MOST_BYTES,
                "server_header": None,
                "logger": _logger(),
            }
            super().__init__(handler, **options)
            taken.append(True)

    websockets.asyncio.server.serve = Guarded  # type: ignore[assignment, misc]
    try:
        yield taken
    finally:
        websockets.asyncio.server.serve = original  # type: ignore[misc]


def _logger() -> logging.Logger:
    """Tells what went wrong in viser, and not what was wrong with a stranger's request, who could fill the terminal."""
    logger = logging.Logger("stavatar.viewer", logging.ERROR)
    logger.addFilter(lambda record: record.getMessage() != "opening handshake failed")
    return logger
