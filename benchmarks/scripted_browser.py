"""A browser on the viewer's page, as far as the network can tell: for tests and `viewer_load.py`."""

from __future__ import annotations

import io
import math
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
import viser
import websockets.asyncio.client
import websockets.sync.client
import zstandard
from PIL import Image

PROTOCOL = f"viser-v{viser.__version__}"


def camera(degrees: float = 0.0, **changes: Any) -> dict[str, Any]:
    """The message that tells where the browser looks from: a metre away, `degrees` to the right of the front."""
    half = math.radians(degrees) / 2
    return {
        "type": "ViewerCameraMessage",
        "wxyz": [0.0, math.cos(half), 0.0, -math.sin(half)],  # y down, z forward
        "position": [math.sin(2 * half), 0.0, math.cos(2 * half)],
        "fov": 0.4,
        "near": 0.01,
        "far": 1000.0,
        "image_height": 600,
        "image_width": 800,
        "look_at": [0.0, 0.0, 0.0],
        "up_direction": [0.0, 1.0, 0.0],
        **changes,
    }


def setting(uuid: str, value: object) -> dict[str, Any]:
    """The message that a widget was set to a value."""
    return {"type": "GuiUpdateMessage", "uuid": uuid, "updates": {"value": value}}


def pack(message: object) -> bytes:
    return msgspec.msgpack.encode(message)


def unpack(frame: bytes) -> list[dict[str, Any]]:
    """The messages that the server sent at once."""
    whole, packed = (int.from_bytes(frame[begin : begin + 8], "little") for begin in (0, 8))
    content = zstandard.ZstdDecompressor().decompress(frame[16 : 16 + packed], whole)
    return msgspec.msgpack.decode(content)["messages"]


def pictures(messages: list[dict[str, Any]]) -> list[Image.Image]:
    """Those that are pictures of the avatar."""
    packed = (message.get("rgb_data") for message in messages if message["type"] == "BackgroundImageMessage")
    return [Image.open(io.BytesIO(picture)) for picture in packed if picture]


def open_page(url: str, **options: Any) -> websockets.sync.client.ClientConnection:
    """The connection that the page at `url` opens."""
    return websockets.sync.client.connect(_target(url), **_options(url, options))


def open_page_async(url: str, **options: Any) -> websockets.asyncio.client.connect:
    """The same, for many of them in one thread."""
    return websockets.asyncio.client.connect(_target(url), **_options(url, options))


async def messages(connection: websockets.asyncio.client.ClientConnection) -> AsyncIterator[dict[str, Any]]:
    """Everything that the server says, one after the other."""
    async for frame in connection:
        for message in unpack(frame):
            yield message


def _target(url: str) -> str:
    parts = urlsplit(url)
    return f"ws://{parts.netloc}{parts.path.rstrip('/')}"


def _options(url: str, others: dict[str, Any]) -> dict[str, Any]:
    origin = f"http://{urlsplit(url).netloc}"
    return {"origin": origin, "subprotocols": [PROTOCOL], "max_size": None, "compression": None, "proxy": None} | others
