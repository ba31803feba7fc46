"""Every parser of files that strangers may have made, with whole files to start from.

A parser reads one folder. An input is that folder with one file replaced; what comes out must be a value or a
:class:`StavatarError`, and nothing but the folder may be looked at.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import fuzz_mutations as mutations
import numpy as np
import torch
from PIL import Image

from stavatar import config
from stavatar.arrays import read_npz
from stavatar.avatar.storage import load_avatar, load_motion
from stavatar.camera import Camera
from stavatar.drive.coefficients import read_coefficients
from stavatar.errors import StavatarError
from stavatar.export.ply import read_ply, write_ply
from stavatar.export.splats import Splats
from stavatar.export.spz import read_spz, write_spz
from stavatar.head import array_pickle
from stavatar.sequence import untrusted
from stavatar.sequence.formats import FORMATS
from stavatar.sequence.untrusted import DataFolder


@dataclass
class Parser:
    """One reader, its whole files, and how these are broken.

    Attributes:
        name: of the parser.
        folder: that it reads.
        read: reads it; returns numbers that must be finite, if any come out.
        targets: file in the folder -> (whole contents, mutation).
    """

    name: str
    folder: Path
    read: Callable[[], Any]
    targets: dict[str, tuple[list[bytes], mutations.Mutation]]

    def make(self, random: Random) -> tuple[str, bytes]:
        """An input: which file is replaced, and by what."""
        file = random.choice(list(self.targets))
        wholes, mutate = self.targets[file]
        return file, mutate(random.choice(wholes), random)

    def try_whole(self) -> None:
        """The whole files must be read; otherwise nothing behind the first check would be reached."""
        for file, (wholes, _) in self.targets.items():
            for whole in wholes:
                (self.folder / file).write_bytes(whole)
                self.read()
            (self.folder / file).write_bytes(wholes[0])

    def accepts(self, file: str, content: bytes) -> bool:
        """Read the folder with one file replaced: True where it was read, False where it was refused in order.

        Raises:
            Exception: whatever else comes out is a fault of the parser.
        """
        path, whole = self.folder / file, self.targets[file][0][0]
        path.write_bytes(content)
        try:
            with confined(self.folder):
                for value in _tensors(self.read()):
                    assert np.isfinite(np.asarray(value)).all(), "numbers that are not finite came out"
            return True
        except StavatarError as error:
            assert str(error).strip(), "an error without a sentence"
            return False
        finally:
            path.write_bytes(whole)


def _tensors(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [tensor for inner in value.values() for tensor in _tensors(inner)]
    if isinstance(value, list | tuple):
        return [tensor for inner in value for tensor in _tensors(inner)]
    return [value] if isinstance(value, torch.Tensor | np.ndarray) and value.dtype != object else []


# ------------------------------------------------------------------------------------------------------- confinement

_inside: Path | None = None
_hooked = False
_LIBRARIES = tuple({os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, Path(config.__file__).parent)})


class Escaped(BaseException):
    """A parser opened what it has no business with, or ran something."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _inside is None:
        return
    if event == "open" and isinstance(arguments[0], str | bytes):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not path.startswith((str(_inside), *_LIBRARIES, "/proc/", "/dev/null", "/sys/")):
            raise Escaped(f"opened {path}")
    elif event in ("os.system", "subprocess.Popen", "os.exec", "os.fork", "socket.connect", "pickle.find_class"):
        raise Escaped(f"{event} {str(arguments)[:200]}")


@contextmanager
def confined(folder: Path) -> Any:
    """While open, Python code that opens a file outside the folder, runs a program or connects to a host fails."""
    global _inside, _hooked
    if not _hooked:
        sys.addaudithook(_watch)
        _hooked = True
    _inside = folder.resolve()
    try:
        yield
    finally:
        _inside = None


# ------------------------------------------------------------------------------------------------------ the parsers


def _data_set(name: str, files: dict[str, mutations.Mutation]) -> Callable[[Path], Parser]:
    """The reader of one of the field's formats, pictures included."""

    def build(folder: Path) -> Parser:
        import data_sets

        truth = data_sets.Truth.make(3, 100 if name == "insta" else 4)
        getattr(data_sets, f"write_{name}")(folder, truth)
        for frame in range(2, data_sets.FRAMES) if name == "metrical" else ():  # each takes torch milliseconds
            (folder / f"checkpoint/{frame:05d}.frame").unlink()
        random = Random(0)

        def read() -> Any:
            opened = DataFolder(folder)
            FORMATS[name].recognise(opened)
            dataset = FORMATS[name].open(opened)
            dataset.faults.refuse()
            lenses = [view.lens for view in dataset.views if view.lens]
            ids = torch.tensor([[view.frame_id, view.camera, view.timestep] for view in dataset.views])
            read = [ids, *(np.float32([*lens.focal, *lens.center]) for lens in lenses)]
            read += [lens.world_to_camera.astype(np.float32) for lens in lenses]
            if dataset.parameters is not None:
                read += [dataset.shape, *(value for _, value in dataset.parameters.items())]
            if random.random() < 0.1:  # its pictures are read by threads, which takes longer than all the rest
                dataset.check_pictures()
                if dataset.parameters is not None:
                    dataset.load()
            return read

        return Parser(name, folder, read, {file: ([(folder / file).read_bytes()], how) for file, how in files.items()})

    return build


def _pictures(folder: Path) -> Parser:
    noise = np.random.default_rng(0).integers(0, 255, (64, 70, 4), dtype=np.uint8)
    wholes = []
    for mode, suffix in (("RGB", "png"), ("RGBA", "png"), ("L", "png"), ("RGB", "jpeg")):
        Image.fromarray(noise).convert(mode).save(folder / f"x.{suffix}", format=suffix)
        wholes.append((folder / f"x.{suffix}").read_bytes())
    Image.fromarray(noise[..., :3]).save(folder / "x.jpeg", exif=_turned())
    wholes.append((folder / "x.jpeg").read_bytes())

    def read() -> None:
        refusals = []
        for reader in (_read_as_frame, _read_as_colour, _read_as_mask):
            try:
                reader(folder / "x.png")
            except StavatarError as error:
                refusals.append(error)
        if len(refusals) == 3:
            raise refusals[0]

    return Parser("pictures", folder, read, {"x.png": (wholes, mutations.png)})


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _read_as_frame(path: Path) -> None:
    from stavatar.capture.video import ImageFiles

    next(ImageFiles(path, [path]).frames())


def _read_as_colour(path: Path) -> None:
    untrusted.read_colour(path, untrusted.picture_head(path)[0])


def _read_as_mask(path: Path) -> None:
    untrusted.read_mask(path, untrusted.picture_head(path)[0])


def _npz(folder: Path) -> Parser:
    from stavatar.sequence.vhap import _read_landmarks, _read_row

    rng = np.random.default_rng(0)
    widths = {"translation": 3, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "expr": 5}
    arrays = {name: rng.normal(size=(1, width)).astype(np.float32) for name, width in widths.items()}
    arrays |= {"shape": rng.normal(size=4).astype(np.float32), "landmarks": np.zeros((2, 478, 2), np.float32)}
    np.savez_compressed(folder / "x.npz", **arrays)

    def read() -> Any:
        path = folder / "x.npz"
        loaded = read_npz(path, most_bytes=untrusted.MOST_ARRAY_BYTES)
        _read_landmarks(path, 2)
        return [*_read_row(path, loaded).values(), untrusted.checked_array(path, loaded, "shape", (None,))]

    return Parser("npz", folder, read, {"x.npz": ([(folder / "x.npz").read_bytes()], mutations.npz)})


def _flame_npz(folder: Path) -> Parser:
    from stavatar.head import flame_file

    arrays = {"v_template": np.zeros((3, 3)), "f": np.zeros((2, 3), np.uint32), "weights": np.ones((3, 5)) / 5}
    np.savez(folder / "x.npz", **arrays)

    def read() -> Any:
        fields = flame_file._Fields(folder / "x.npz", flame_file._read_arrays(folder / "x.npz"))
        return [fields.numbers("v_template", (None, 3)), fields.numbers("weights", (None, 5))]

    return Parser("flame npz", folder, read, {"x.npz": ([(folder / "x.npz").read_bytes()], mutations.npz)})


def _flame_pickle(folder: Path) -> Parser:
    import pickle

    from scipy import sparse

    from made_up_flame import chumpy_look_alikes, installed

    rng = np.random.default_rng(1)
    classes, wholes = chumpy_look_alikes(), []
    whole = rng.normal(size=(4, 5))
    ch = classes["Ch"](x=whole, _dirty_vars={"x"}, _itr=None)
    content = {
        "v_template": ch,
        "f": rng.integers(0, 9, (3, 3), dtype=np.uint32),
        "shapedirs": classes["Select"](a=ch, idxs=np.arange(12), preferred_shape=(4, 3)),
        "J_regressor": sparse.csc_matrix((rng.random((5, 9)) > 0.6) * rng.normal(size=(5, 9))),
        "weights": np.asfortranarray(rng.normal(size=(3, 4))),
        "bs_type": "lrotmin",
        "settings": [1, 2.5, None, {"a": np.float64(2.0)}],
    }
    with installed(classes):
        wholes = [pickle.dumps(content, protocol=protocol) for protocol in range(6)]

    def read() -> Any:
        array_pickle.read_array_pickle(folder / "x.pkl")  # arrays as they are: whether they are finite is asked later

    return Parser("flame pickle", folder, read, {"x.pkl": (wholes, mutations.pickled)})


def _splats() -> Splats:
    rng = np.random.default_rng(0)
    sizes = ((20, 3), (20, 3), (20, 4), (20,), (20, 4, 3))
    return Splats(*(rng.normal(size=size).astype(np.float32) for size in sizes))


def _ply(folder: Path) -> Parser:
    write_ply(folder / "x.ply", _splats())

    def read() -> Any:
        splats = read_ply(folder / "x.ply")
        return [splats.positions, splats.log_scales, splats.quaternions, splats.logits, splats.sh]

    return Parser("ply", folder, read, {"x.ply": ([(folder / "x.ply").read_bytes()], mutations.ply)})


def _spz(folder: Path) -> Parser:
    write_spz(folder / "x.spz", _splats())

    def read() -> Any:
        splats = read_spz(folder / "x.spz")
        return [splats.positions, splats.log_scales, splats.quaternions, splats.logits, splats.sh]

    return Parser("spz", folder, read, {"x.spz": ([(folder / "x.spz").read_bytes()], mutations.spz)})


def _csv(folder: Path) -> Parser:
    from stavatar.export.motion import LIVE_LINK_BLENDSHAPES, timecode

    names = tuple(name[0].lower() + name[1:] for name in LIVE_LINK_BLENDSHAPES)
    rows = [["Timecode", "BlendShapeCount", *LIVE_LINK_BLENDSHAPES]]
    rows += [[timecode(frame, 2), "52", *(f"{0.01 * frame:.3f}" for _ in names)] for frame in range(8)]
    timed = [["time", *names[:12]], *([f"{frame / 30:.4f}", *["0.5"] * 12] for frame in range(6))]
    wholes = ["\n".join(",".join(row) for row in table).encode() for table in (rows, timed)]

    def read() -> Any:
        driver = read_coefficients(folder / "x.csv", names)
        assert 1 <= driver.fps <= 240
        return [driver.coefficients] if hasattr(driver, "coefficients") else None

    return Parser("arkit csv", folder, read, {"x.csv": (wholes, mutations.csv_text)})


def _config(folder: Path) -> Parser:
    config.save(config.preset("cpu"), folder / "config.yaml")
    whole = (folder / "config.yaml").read_text()
    sections = re.split(r"^(?=\w)", whole, flags=re.MULTILINE)[1:]  # a section at a time is read in a tenth of the time

    def read() -> None:
        config.load(folder / "config.yaml")

    wholes = [text.encode() for text in (whole, *sections * 3)]
    return Parser("config yaml", folder, read, {"config.yaml": (wholes, mutations.yaml_text)})


def small_avatar() -> tuple[Any, Any]:
    """An avatar without training, whose motion has four frames, and that motion."""
    import dataclasses

    from stavatar.avatar.storage import Motion
    from stavatar.head import load_embedded_head
    from stavatar.sequence import Sequence
    from stavatar.training.trainer import start_avatar

    head, preset = load_embedded_head(), config.preset("cpu")
    settings = dataclasses.replace(
        preset,
        network=dataclasses.replace(preset.network, uv_size=16, width=0.0625),
        gaussians=dataclasses.replace(preset.gaussians, seeds=0, reference="first", color="grey"),
    )
    parameters, camera = head.neutral(4), Camera.frontal(1.0, 128.0, 64, 64)
    train, test = torch.arange(3), torch.arange(3, 4)
    sequence = Sequence(
        name="fuzz",
        head_model=head.name,
        shape=torch.zeros(head.shape_count),
        parameters=parameters,
        camera=camera,
        images=torch.full((4, 64, 64, 3), 255, dtype=torch.uint8),
        masks=torch.zeros((4, 64, 64), dtype=torch.uint8),
        frame_ids=torch.arange(4),
        train=train,
        test=test,
        fps=25.0,
    )
    return start_avatar(sequence, head, settings).eval(), Motion(parameters, camera, 25.0, train, test)


def _avatar(name: str, whole: bool) -> Callable[[Path], Parser]:
    """An avatar's two files: its motion alone, or all of it."""

    def build(folder: Path) -> Parser:
        from stavatar.avatar.storage import save_avatar

        save_avatar(*small_avatar(), folder)
        if not whole:  # the settings are not looked at
            text = (folder / "avatar.yaml").read_text()
            (folder / "avatar.yaml").write_text(text.partition("config:")[0] + "config: {}\n")

        def read() -> Any:
            if whole:
                avatar, motion = load_avatar(folder)
                tensors = [*avatar.state_dict().values()]
            else:
                _, motion = load_motion(folder)
                tensors = []
            return [*tensors, *(value for _, value in motion.parameters.items()), motion.camera.world_to_camera]

        targets = {
            "avatar.yaml": ([(folder / "avatar.yaml").read_bytes()], mutations.yaml_text),
            "avatar.safetensors": ([(folder / "avatar.safetensors").read_bytes()], mutations.safetensors),
        }
        return Parser(name, folder, read, targets)

    return build


def _video(folder: Path) -> Parser:
    import av  # the other parsers are fuzzed where there is none

    from stavatar.capture.video import open_source

    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    kinds = (
        ("mp4", "libx264", "yuv420p"),
        ("mkv", "ffv1", "bgr0"),
        ("avi", "mjpeg", "yuvj420p"),
        ("gif", "gif", "rgb8"),
    )
    wholes = []
    for suffix, codec, pixels in kinds:
        path = folder / f"x.{suffix}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = 64, 64, pixels
            for step in range(4):
                frame = av.VideoFrame.from_ndarray(np.roll(noise, step, 0), format="rgb24").reformat(format=pixels)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        wholes.append(path.read_bytes())
        path.unlink()

    def read() -> None:
        for _ in islice(open_source(folder / "x.mp4").frames(), 8):
            pass

    return Parser("video", folder, read, {"x.mp4": (wholes, mutations.video)})


PARSERS: dict[str, Callable[[Path], Parser]] = {
    "vhap": _data_set(
        "vhap",
        {
            "transforms.json": mutations.json_text,
            "transforms_train.json": mutations.json_text,
            "flame_param/00001.npz": mutations.npz,
        },
    ),
    "lam": _data_set("lam", {"flame_params.json": mutations.json_text, "transforms.json": mutations.json_text}),
    "imavatar": _data_set("imavatar", {"flame_params.json": mutations.json_text}),
    "insta": _data_set(
        "insta",
        {
            "transforms.json": mutations.json_text,
            "transforms_test.json": mutations.json_text,
            "flame/exp/00001.txt": mutations.text_of_numbers,
        },
    ),
    "nerface": _data_set(
        "nerface", {"transforms_train.json": mutations.json_text, "transforms_test.json": mutations.json_text}
    ),
    "metrical": _data_set("metrical", {"checkpoint/00001.frame": mutations.torch_file}),
    "npz": _npz,
    "flame npz": _flame_npz,
    "flame pickle": _flame_pickle,
    "ply": _ply,
    "spz": _spz,
    "arkit csv": _csv,
    "config yaml": _config,
    "motion": _avatar("motion", whole=False),
    "avatar": _avatar("avatar", whole=True),
    "pictures": _pictures,
    "video": _video,
}
"""By name; each is made with an empty folder of its own."""
