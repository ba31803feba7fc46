"""Where the viewer is served: the socket it listens at, who reaches that, and the names it may be asked for by."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import re
import socket
from dataclasses import dataclass

from stavatar.errors import InputError

_PORTS_TRIED = 100
_HOST = re.compile(r"(?P<name>[\w.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Address:
    """A socket that listens.

    Attributes:
        host: what the user asked for, a name or an address.
        listening: the socket; whoever is given it closes it.
    """

    host: str
    listening: socket.socket

    @property
    def port(self) -> int:
        return int(self.listening.getsockname()[1])

    @property
    def _bound(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        return ipaddress.ip_address(self.listening.getsockname()[0])

    @property
    def exposed(self) -> bool:
        """Whether other machines reach it."""
        return not self._bound.is_loopback

    @property
    def url(self) -> str:
        """For a browser on this machine."""
        host = "127.0.0.1" if self._bound.is_unspecified else self.host
        return self._url(host)

    @property
    def url_elsewhere(self) -> str:
        """For a browser on another machine, as far as it can be known here."""
        return self._url(socket.gethostname() if self._bound.is_unspecified else self.host)

    def _url(self, host: str) -> str:
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def goes_by(self, host: str) -> bool:
        """Whether a request whose header ``Host`` is `host` means this server.

        A page of a stranger may have its own name resolve to this machine (DNS rebinding); the browser then takes the
        viewer for a part of that page. So no name counts but ours. Addresses count: they cannot be rebound.
        """
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match["name"].strip("[]").lower()
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(name).is_loopback or self.exposed
        if name in ("localhost", self.host.lower()):
            return True
        return self.exposed and name.split(".")[0] == socket.gethostname().lower().split(".")[0]


def listen(host: str, port: int) -> Address:
    """Listen at a port of a host, or at the next one that is free. Port 0 takes any.

    Raises:
        InputError: this machine has no such address, or the port may not be used.
    """
    if not host:
        raise InputError("--host is empty: name an address of this machine, such as 127.0.0.1")
    for number in range(port, min(port + _PORTS_TRIED, 65536)):
        try:
            return Address(host, _bind(host, number))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            if error.errno == errno.EACCES:
                raise InputError(
                    f"port {number} is reserved on this machine: name one above 1023 with --port"
                ) from error
            raise InputError(
                f"nothing can be served at {host} ({error.strerror}): name an address of this machine with --host"
            ) from error
    raise InputError(f"port {port} and those after it are taken: name another one with --port")


def _bind(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(address[:2], family=family, dualstack_ipv6=both)
