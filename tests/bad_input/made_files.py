"""Files as strangers might send them: whole ones to begin with, and what can be wrong with each."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import wave
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml
from PIL import Image


@dataclass
class Kit:
    """Whole things, made once: folders to copy, and a clip's frames.

    Attributes:
        sequence: a tracked sequence of ten frames, 64 x 64.
        avatar: an avatar.
        flame: a file of a made-up FLAME head (.npz).
    """

    sequence: Path
    avatar: Path
    flame: Path
    formats: dict[str, Path] = field(default_factory=dict)

    def format(self, name: str) -> Path:
        """A small data set in one of the field's formats."""
        import data_sets

        if name not in self.formats:
            folder = self.sequence.parent / f"format-{name}"
            folder.mkdir()
            getattr(data_sets, f"write_{name}")(folder, data_sets.Truth.make(3, 100 if name == "insta" else 4))
            self.formats[name] = folder
        return self.formats[name]


Make = Callable[[Path, Kit], None]

# -------------------------------------------------------------------------------------------------------------- videos


def noise(count: int, height: int = 96, width: int = 128) -> list[np.ndarray]:
    """Frames of a pattern that drifts by a pixel each."""
    coarse = np.random.default_rng(0).integers(40, 216, (height // 8 + 1, (width + count) // 8 + 1, 3), dtype=np.uint8)
    whole = coarse.repeat(8, 0).repeat(8, 1)
    return [np.ascontiguousarray(whole[:height, t : t + width]) for t in range(count)]


def video(
    path: Path,
    frames: list[np.ndarray],
    codec: str = "ffv1",
    pixels: str = "bgr0",
    rate: Fraction | int = 25,
    **fields: Any,
) -> Path:
    """A video, exact unless another codec is asked for; `fields` are those of the codec's context."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        for name, value in fields.items():
            setattr(stream.codec_context, name, value)
        for array in frames:
            layout = "rgba" if array.shape[-1] == 4 else "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format=layout).reformat(format=pixels)))
        container.mux(stream.encode())
    return path


def clip(name: str, count: int = 12, *, height: int = 96, width: int = 128, **how: Any) -> Make:
    return lambda folder, kit: void(video(folder / name, noise(count, height, width), **how))


def void(_: Any) -> None:
    return None


def mp4(folder: Path, name: str = "clip.mp4", count: int = 30) -> Path:
    return video(folder / name, noise(count), "libx264", "yuv420p")


def text(name: str, content: str | bytes) -> Make:
    """A file with this content."""

    def make(folder: Path, kit: Kit) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))

    return make


def cut(name: str, share: float) -> Make:
    """A video of 30 frames that was copied only in part."""

    def make(folder: Path, kit: Kit) -> None:
        path = mp4(folder) if name.endswith("mp4") else video(folder / name, noise(30))
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return make


def turned(matrix: tuple[int, int, int, int]) -> Make:
    """An mp4 with a display matrix, as telephones write it; its upper left corner is red."""

    def make(folder: Path, kit: Kit) -> None:
        frames = [frame.copy() for frame in noise(12)]
        for frame in frames:
            frame[:32, :32] = (255, 0, 0)
        content = bytearray(video(folder / "clip.mp4", frames, "libx264", "yuv420p").read_bytes())
        place = content.index(b"tkhd") + 44
        a, b, c, d = (value << 16 for value in matrix)
        content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        (folder / "clip.mp4").write_bytes(content)

    return make


def sound(folder: Path, kit: Kit) -> None:
    with wave.open(str(folder / "clip.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))


def announced_size(suffix: str, side: int) -> Make:
    """A GIF or AVI whose header announces pictures of this many pixels a side, and holds some of 128 x 96."""

    def make(folder: Path, kit: Kit) -> None:
        path = folder / f"clip.{suffix}"
        if suffix == "gif":
            gif(12)(folder, kit)
            place, layout = 6, "<2H"
        else:
            video(path, noise(12), "rawvideo", "bgr24")
            place, layout = path.read_bytes().index(b"strf") + 12, "<2i"
        content = bytearray(path.read_bytes())
        content[place : place + struct.calcsize(layout)] = struct.pack(layout, side, side)
        path.write_bytes(content)

    return make


def no_frames(folder: Path, kit: Kit) -> None:
    with av.open(str(folder / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "bgr0"
        container.start_encoding()


def gif(count: int) -> Make:
    def make(folder: Path, kit: Kit) -> None:
        first, *rest = (Image.fromarray(frame) for frame in noise(count))
        first.save(folder / "clip.gif", save_all=True, append_images=rest, duration=40)

    return make


def playlist(content: str) -> Make:
    """A text that FFmpeg takes for a list of other files, called clip.mp4, beside a whole video."""

    def make(folder: Path, kit: Kit) -> None:
        mp4(folder, "other.mp4")
        (folder / "clip.mp4").write_text(content)

    return make


def transparent(folder: Path, kit: Kit) -> None:
    frames = [np.dstack([frame, np.full(frame.shape[:2], 255, np.uint8)]) for frame in noise(12)]
    for frame in frames:
        frame[:, 64:] = 0
    video(folder / "clip.mkv", frames, pixels="bgra")


# ------------------------------------------------------------------------------------------------------------ pictures


def pictures(count: int = 12, *, suffix: str = "png", mode: str = "RGB") -> Make:
    def make(folder: Path, kit: Kit) -> None:
        (folder / "pictures").mkdir()
        for number, frame in enumerate(noise(count)):
            Image.fromarray(frame).convert(mode).save(folder / f"pictures/{number}.{suffix}")

    return make


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends behind its header."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\0\0IDAT"


def png_of_zeros(side: int) -> bytes:
    """A whole PNG of so many black pixels a side: a thousandth of their size on the disk."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    squeeze, rows = zlib.compressobj(9), []
    for _ in range(side):
        rows.append(squeeze.compress(bytes(1 + 3 * side)))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"".join([*rows, squeeze.flush()])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def sixteen_bits(folder: Path) -> None:
    for path in folder.glob("pictures/*.png"):
        Image.fromarray(np.full((96, 128), 40_000, np.uint16)).save(path)


# ---------------------------------------------------------------------------------------- sequences and other data sets


def with_sequence(change: Callable[[Path], Any] = void) -> Make:
    """The tracked sequence as folder ``sequence``, changed."""
    return with_format("", change, "sequence")


def with_format(name: str, change: Callable[[Path], Any] = void, called: str = "data") -> Make:
    def make(folder: Path, kit: Kit) -> None:
        shutil.copytree(kit.format(name) if name else kit.sequence, folder / called)
        change(folder / called)

    return make


def in_json(file: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change the content of a JSON file in a folder; NaN and infinity are written as Python does."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return apply


def in_frame(number: int, file: str = "transforms.json", **values: Any) -> Callable[[Path], None]:
    """Set fields of one entry of ``frames``."""
    return in_json(file, lambda content: content["frames"][number].update(values))


def without(number: int, name: str, file: str = "transforms.json") -> Callable[[Path], None]:
    return in_json(file, lambda content: content["frames"][number].pop(name))


def replaced(file: str, content: str | bytes) -> Callable[[Path], None]:
    """A file of a folder with other content."""

    def apply(folder: Path) -> None:
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))

    return apply


def linked(file: str, target: str) -> Callable[[Path], None]:
    """A file of a folder replaced by a link."""

    def apply(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).symlink_to(target)

    return apply


def halved(file: str) -> Callable[[Path], None]:
    """A file that was copied only in part."""

    def apply(folder: Path) -> None:
        (folder / file).write_bytes((folder / file).read_bytes()[: (folder / file).stat().st_size // 2])

    return apply


def piped(file: str) -> Callable[[Path], None]:
    """A file replaced by a named pipe, on which a reader would wait for ever."""

    def apply(folder: Path) -> None:
        (folder / file).unlink()
        os.mkfifo(folder / file)

    return apply


def in_npz(file: str, **changes: Any) -> Callable[[Path], None]:
    """Set arrays of an npz file; None takes one away."""

    def apply(folder: Path) -> None:
        with np.load(folder / file) as data:
            arrays = dict(data) | changes
        np.savez(folder / file, **{name: value for name, value in arrays.items() if value is not None})

    return apply


def zip_bomb(member: str, size: int) -> bytes:
    """A zip whose one member unpacks to so many zeros."""
    written = io.BytesIO()
    with (
        zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(member, "w", force_zip64=True) as file,
    ):
        for _ in range(size >> 24):
            file.write(bytes(1 << 24))
    return written.getvalue()


def zip_announcing(member: str, size: int) -> bytes:
    """A zip whose one member says that it unpacks to so many bytes."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, bytes(1 << 16))
        archive.infolist()[0].file_size = size
    return written.getvalue()


def npy_announcing(shape: str) -> bytes:
    """An npz whose array announces a shape and holds nothing."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("shape.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    return written.getvalue()


def in_checkpoint(name: str, value: np.ndarray) -> Callable[[Path], None]:
    """Set an array of a metrical tracker's checkpoint."""
    import torch

    def apply(folder: Path) -> None:
        path = folder / "checkpoint/00001.frame"
        content = torch.load(path, weights_only=False)  # made by the tests themselves
        content["flame"][name] = value
        torch.save(content, path)

    return apply


# ------------------------------------------------------------------------------------------------------------- avatars


def with_avatar(change: Callable[[Path], Any] = void) -> Make:
    """The avatar as folder ``avatar``, changed."""

    def make(folder: Path, kit: Kit) -> None:
        shutil.copytree(kit.avatar, folder / "avatar")
        change(folder / "avatar")

    return make


def in_yaml(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = yaml.safe_load((folder / "avatar.yaml").read_text())
        change(content)
        (folder / "avatar.yaml").write_text(yaml.safe_dump(content))

    return apply


def in_tensors(**changes: Any) -> Callable[[Path], None]:
    """Change tensors of an avatar by functions: dots in names are double underscores."""
    from safetensors.torch import load_file, save_file

    def apply(folder: Path) -> None:
        path = folder / "avatar.safetensors"
        tensors = load_file(path)
        for name, change in changes.items():
            name = name.replace("__", ".")
            changed = change(tensors.pop(name))
            if changed is not None:
                tensors[name] = changed.contiguous()
        save_file(tensors, path)

    return apply


def announcing_tensors(shape: list[int]) -> bytes:
    """A safetensors file that announces a tensor of this shape and holds nothing."""
    header = json.dumps({"shape": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * int(np.prod(shape))]}})
    return struct.pack("<Q", len(header)) + header.encode()


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}, *{before}, *{before}, *{before}, *{before}, *{before}, *{before}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
"""A kilobyte of YAML that stands for a billion values."""


def with_run(change: Callable[[Path], Any]) -> Make:
    """A run of the folder ``sequence`` in ``out``, interrupted before training began, and changed."""
    from stavatar import config

    def make(folder: Path, kit: Kit) -> None:
        shutil.copytree(kit.sequence, folder / "sequence")
        shutil.copytree(kit.sequence, folder / "out/sequence")
        config.save(config.preset("cpu"), folder / "out/config.yaml")
        inputs = {"source": "sequence", "bytes": None, "holdout": None, "protocol": None}
        (folder / "out/inputs.json").write_text(json.dumps(inputs))
        (folder / "out/stages.json").write_text('{"tracking": 1.0}')
        change(folder / "out")

    return make


# ---------------------------------------------------------------------------------------------------- FLAME's pickles


def evil(module: str, name: str, argument: str) -> bytes:
    """A pickle that calls a function when it is loaded in the usual way."""
    return f"c{module}\n{name}\n(S{argument!r}\ntR.".encode()


class Nested:
    """Pickled as a chain of calls: ``getattr(__import__("os"), "system")("touch escaped")``."""

    def __reduce__(self) -> Any:
        return eval, ("getattr(__import__('os'), 'system')('touch escaped')",)


def chain() -> bytes:
    return pickle.dumps({"v_template": [[Nested()]]}, protocol=4)


def set_state() -> bytes:
    """A class is given a state that would replace its methods."""
    return b"\x80\x04cchumpy.ch\nCh\n}(V__setstate__\ncos\nsystem\nub."


def copies() -> bytes:
    """A text of a megabyte, of which a call makes a copy, a hundred thousand times over."""
    content = b"\x80\x02" + b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x000"
    one = b"c_codecs\nencode\nh\x00\x85R"
    return content + b"(" + one * 20_000 + b"l."


def deep_pickle() -> bytes:
    return b"(" * 90_000 + b"t" * 90_000 + b"."


# --------------------------------------------------------------------------------------------------- splats and tables


def ply(count: int | str, body: bytes = b"", properties: str = "") -> bytes:
    from stavatar.export.ply import _property_names

    lines = properties or "\n".join(f"property float {name}" for name in _property_names(1))
    return f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n{lines}\nend_header\n".encode() + body


def spz(count: int) -> bytes:
    """An SPZ that announces so many Gaussians and holds none."""
    return gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 3, count, 0, 12, 0, 0))


def gzip_bomb(size: int) -> bytes:
    """A gzip stream that unpacks to so many zeros."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(squeeze.compress(bytes(1 << 24)) for _ in range(size >> 24)), squeeze.flush()])


def table(rows: int = 12, change: Callable[[list[list[str]]], Any] = void) -> Make:
    """A recording of coefficients as ``motion.csv``, changed."""
    from stavatar.export.motion import LIVE_LINK_BLENDSHAPES, timecode

    def make(folder: Path, kit: Kit) -> None:
        cells = [["Timecode", "BlendShapeCount", *LIVE_LINK_BLENDSHAPES]]
        cells += [[timecode(row, 2), "52", *["0.25"] * 52] for row in range(rows)]
        change(cells)
        (folder / "motion.csv").write_text("\n".join(",".join(row) for row in cells))

    return make


def both(*makes: Make) -> Make:
    """Several things in one folder."""

    def make(folder: Path, kit: Kit) -> None:
        for one in makes:
            one(folder, kit)

    return make
