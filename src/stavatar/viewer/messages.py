"""What a browser may say: where its camera is, and what a widget was set to. Nothing else of viser's protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

MOST_BYTES = 16 << 10
"""Of one message. True ones have a few hundred bytes."""

_Metres = Annotated[float, Meta(ge=-1e4, le=1e4)]
_Number = Annotated[float, Meta(ge=-1e6, le=1e6)]
_Pixels = Annotated[int, Meta(ge=1, le=1 << 16)]
_Point = tuple[_Metres, _Metres, _Metres]


class _Camera(Struct, tag_field="type", tag="ViewerCameraMessage"):
    """Radians, metres, pixels; NaN and infinity are in none of the ranges."""

    wxyz: tuple[_Number, _Number, _Number, _Number]
    position: _Point
    fov: Annotated[float, Meta(ge=0.01, le=3.1)]
    near: _Number
    far: _Number
    image_height: _Pixels
    image_width: _Pixels
    look_at: _Point
    up_direction: _Point

    def __post_init__(self) -> None:
        if not 0.9 < sum(part * part for part in self.wxyz) < 1.1:
            raise ValueError("wxyz is no rotation")


class _Value(Struct):
    value: bool | _Number | Annotated[str, Meta(max_length=100)] | Annotated[list[_Number], Meta(max_length=4)]


class _Widget(Struct, tag_field="type", tag="GuiUpdateMessage"):
    """viser would set any attribute of a widget that ``updates`` names; a browser has reason to set its value only."""

    uuid: Annotated[str, Meta(max_length=64)]
    updates: _Value


_read = msgspec.msgpack.Decoder(_Camera | _Widget).decode
_write = msgspec.msgpack.Encoder().encode


def accepted(message: object, offered: Callable[[str, object], bool]) -> bytes | None:
    """A message as it is passed on to viser: its known fields, written anew. None if it is not one of these.

    Args:
        message: what came.
        offered: tells of a widget, by its number, and a value whether it can be set to that.
    """
    if not isinstance(message, bytes):
        return None
    try:
        content = _read(message)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(content, _Widget) and not offered(content.uuid, content.updates.value):
        return None
    return _write(content)
