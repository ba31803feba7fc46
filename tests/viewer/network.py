"""Scripted browsers: what viser's page does on the network, without a page."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
import viser
import zstandard
from PIL import Image
from viser._messages import Message
from websockets.sync.client import ClientConnection, connect

PROTOCOL = f"viser-v{viser.__version__}"

CAMERA: dict[str, Any] = {
    "type": "ViewerCameraMessage",
    "wxyz": [0.0, 1.0, 0.0, 0.0],
    "position": [0.0, 0.0, 1.0],
    "fov": 0.4,
    "near": 0.01,
    "far": 1000.0,
    "image_height": 600,
    "image_width": 800,
    "look_at": [0.0, 0.0, 0.0],
    "up_direction": [0.0, 1.0, 0.0],
}


def pack(message: object) -> bytes:
    return msgspec.msgpack.encode(message)


def unpack(frame: bytes) -> list[dict[str, Any]]:
    """The messages in what the server sends at once."""
    length = int.from_bytes(frame[8:16], "little")
    whole = zstandard.ZstdDecompressor().decompress(frame[16 : 16 + length], int.from_bytes(frame[:8], "little"))
    return msgspec.msgpack.decode(whole)["messages"]


@contextmanager
def open_page(url: str, **options: Any) -> Iterator[ClientConnection]:
    """The websocket that the page at `url` opens, as a browser would."""
    parts = urlsplit(url)
    options.setdefault("origin", f"http://{parts.netloc}")
    options.setdefault("subprotocols", [PROTOCOL])
    target = f"ws://{parts.netloc}{parts.path.rstrip('/')}"
    with connect(target, max_size=None, compression=None, proxy=None, **options) as connection:
        yield connection


def next_picture(connection: ClientConnection, seconds: float = 30.0) -> Image.Image:
    """Wait for the next picture that is sent."""
    deadline = time.monotonic() + seconds
    while True:
        for message in unpack(connection.recv(timeout=max(0.0, deadline - time.monotonic()))):
            if message["type"] == "BackgroundImageMessage":
                return Image.open(io.BytesIO(message["rgb_data"]))


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what is answered to a plain request; a header given as empty is left out."""
    parts = urlsplit(url)
    sent = {"Host": parts.netloc, **headers}
    lines = [f"GET {parts.path or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value)]
    return ask(parts.hostname, parts.port, "\r\n".join([*lines, "", ""]).encode())


def ask(host: str, port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes and read the answer until the connection ends; status 0 where there is none."""
    with socket.create_connection((host, port), timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        try:
            while part := connection.recv(1 << 16):
                answer += part
        except ConnectionResetError:
            pass
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1]) if lines[0] else 0
    return status, dict(line.split(": ", 1) for line in lines[1:]), body


def every_kind() -> list[type[Message]]:
    """All messages of viser's protocol."""
    return Message.get_subclasses()


@contextmanager
def drawing(viewer: Any) -> Iterator[list[BaseException]]:
    """Have the viewer draw in a thread of its own; yields what ended it early."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            viewer.run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield failures
    finally:
        viewer._stopped = True
        viewer._wake.set()
        thread.join(timeout=30)
