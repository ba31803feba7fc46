"""Every number that a user may want to change, with its default and its reason; presets; YAML in and out.

A run's configuration is written into its output folder, so that a result can always be traced to its settings. Nothing
else in the package holds tunable numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import types
import typing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from stavatar.errors import InputError
from stavatar.files import parse_yaml, read_yaml, write_text


def _check_range(name: str, value: float | None, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """Raise where a setting is outside [low, high], or (low, high] with `open_low`; None is no value and passes."""
    if value is not None and not (low < value <= high if open_low else low <= value <= high):
        raise InputError(f"{name} must be in {'(' if open_low else '['}{low:g}, {high:g}], not {value:g}")


@dataclass(frozen=True)
class CaptureConfig:
    """From video to frames."""

    size: int = 256  # edge of the square crop, pixels
    max_frames: int | None = None  # keep every k-th frame, so that no more than this many remain

    def __post_init__(self) -> None:
        _check_range("capture.size", self.size, 32, 4096)
        _check_range("capture.max_frames", self.max_frames, 10)


@dataclass(frozen=True)
class TrackingConfig:
    """From frames to head parameters: what follows the fit of landmarks."""

    # Align all frames photometrically, to a likeness of the subject that is fitted along.
    refine: bool = True
    size: int = 256  # pictures are tracked at most this large, pixels
    face: bool = True  # expression, jaw and gaze as well; False: head and torso poses only
    torso: bool = True  # a torso with a motion of its own; False: it moves rigidly with the head
    matte: float = 0.1  # weight of the silhouette against that of a colour
    smooth: float = 0.25  # how strongly corrections of neighbouring frames hang together

    def __post_init__(self) -> None:
        _check_range("tracking.size", self.size, 64, 1024)
        _check_range("tracking.matte", self.matte, 0)
        _check_range("tracking.smooth", self.smooth, 0)


@dataclass(frozen=True)
class NetworkConfig:
    """The UV offset network (METHOD section 2)."""

    enabled: bool = True  # False: hard binding only, an ablation row of the paper
    uv_size: int = 256  # edge of the UV maps, texels
    width: float = 1.0  # factor on all channel counts; 1 is the paper's network of about 5.9 M parameters
    encoder: Literal["unet", "free"] = "unet"  # "free": learn the feature map T itself, as its input never changes
    # What the encoder sees: the reference picture as it is (paper), unprojected into the UV square, or there as a mean
    # over frames, weighted by how well each shows a texel.
    reference: Literal["image", "uv", "mean"] = "image"
    init: Literal["normal", "kaiming"] = "normal"  # "normal": N(0, 0.01), as the paper; narrow nets need more
    local_branch: bool = True  # False: an ablation row of the paper
    displacement: Literal["posed", "expression"] = "posed"  # what UV_disp shows: the whole motion, or expression alone
    offset_frame: Literal["world", "face"] = "world"  # axes of the position offset; "face" turns with the head
    position_range: float = 0.1  # metres; bound of the position offset (eq. 7)
    scale_range: float = 5.0  # bound of the log-scale offset, so that a wild prediction cannot overflow exp

    def __post_init__(self) -> None:
        _check_range("network.uv_size", self.uv_size, 16, 2048)
        _check_range("network.width", self.width, 0, 4, open_low=True)
        _check_range("network.position_range", self.position_range, 0)
        _check_range("network.scale_range", self.scale_range, 0, 20)


@dataclass(frozen=True)
class GaussiansConfig:
    """How Gaussians start."""

    scale: float = 1.0  # in face units
    thickness: float = 1.0  # scale along the face normal relative to the others
    opacity: float = 0.1
    reference: Literal["first", "best"] = "first"  # "best": the most frontal, relaxed and sharp training frame
    color: Literal["grey", "reference"] = "grey"  # "reference": read from the reference frame
    seeds: int = 0  # Gaussians added where the matte goes beyond the mesh: hair, shoulders
    sh_degree: int = 3  # highest degree of the spherical harmonics; grows by one each `sh_interval` steps

    def __post_init__(self) -> None:
        _check_range("gaussians.scale", self.scale, 0, open_low=True)
        _check_range("gaussians.thickness", self.thickness, 0, open_low=True)
        _check_range("gaussians.opacity", self.opacity, 1e-4, 1 - 1e-4)
        _check_range("gaussians.seeds", self.seeds, 0, 1_000_000)
        _check_range("gaussians.sh_degree", self.sh_degree, 0, 3)


@dataclass(frozen=True)
class PoseConfig:
    """Refinement of tracked parameters during training."""

    refine: bool = True  # False: take the sequence's parameters as they are, on held-out frames as well
    # Learning rates of Adam per tracked field (paper, section 4).
    expression: float = 1e-3
    rotation: float = 1e-5
    neck: float = 1e-5
    jaw: float = 1e-5
    eyes: float = 1e-5
    translation: float = 1e-6
    neck_translation: float = 1e-6
    decay: float = 1.0  # the rates end at this factor of their start, exponentially
    neighbours: float = 0.0  # share of a frame's step given to the frames around it; fades out over three epochs
    passes: tuple[float, ...] = ()  # when, as fractions of training, Gauss-Newton aligns all training frames
    iterations: int = 4  # Gauss-Newton steps per frame and pass

    def __post_init__(self) -> None:
        for name in ("expression", "rotation", "neck", "jaw", "eyes", "translation", "neck_translation"):
            _check_range(f"pose.{name}", getattr(self, name), 0)
        _check_range("pose.decay", self.decay, 0, 1, open_low=True)
        _check_range("pose.neighbours", self.neighbours, 0, 1)
        _check_range("pose.iterations", self.iterations, 1, 1000)
        for moment in self.passes:
            _check_range("pose.passes", moment, 0, 1)


@dataclass(frozen=True)
class ScheduleConfig:
    """In which order training sees the frames: FLAME-conditioned temporal clustering, FTC (METHOD section 3).

    Shares are of all steps. The paper's six epochs, five of them cluster by cluster and the last over all frames, with
    density control after the second of the five, are `final` = 1/6 and `densify` = 2/5.
    """

    # "clusters": one cluster of similar frames after the other (paper). "interleaved": all frames shuffled, but density
    # statistics kept, and acted upon, per cluster. "shuffled": no clusters at all, an ablation row of the paper.
    order: Literal["shuffled", "clusters", "interleaved"] = "clusters"
    warmup: float = 0.0  # share at the start over all frames, without density control: time for poses to settle
    final: float = 1 / 6  # share at the end over all frames, after the clusters
    densify: float = 2 / 5  # share of a cluster's steps after which density control acts
    clusters: tuple[int, ...] = (5, 6, 7, 8, 9, 10, 11, 12)  # numbers to choose from, by the silhouette
    components: int = 12  # principal components of expression and of pose
    weights: tuple[float, ...] = (0.3, 0.6, 0.1)  # of expression, pose and translation

    def __post_init__(self) -> None:
        for name in ("warmup", "final", "densify"):
            _check_range(f"schedule.{name}", getattr(self, name), 0, 1)
        if self.warmup + self.final > 1:
            raise InputError("schedule.warmup and schedule.final are shares of training and must not exceed 1 together")
        if not self.clusters:
            raise InputError("schedule.clusters must name at least one number")
        for count in self.clusters:
            _check_range("schedule.clusters", count, 1, 1000)
        _check_range("schedule.components", self.components, 1, 1000)
        if len(self.weights) != 3:
            raise InputError("schedule.weights must be three numbers: of expression, pose and translation")
        for weight in self.weights:
            _check_range("schedule.weights", weight, 0)


@dataclass(frozen=True)
class DensityConfig:
    """Adaptive density control (METHOD section 3)."""

    # What decides on clones: the fused perceptual error (paper), or the positional gradient as in 3DGS, an ablation row
    # of the paper, as is "none".
    control: Literal["none", "fpe", "gradient"] = "fpe"
    estimator: Literal["box", "exact"] = "box"  # error under a splat: mean over a square (paper), or blending-weighted
    error_ssim: float = 0.2  # share of the structural part in the error, lambda 1 of eq. 8
    clone_mean: float = 1e-3  # clone where the mean error is larger, tau_avg
    clone_most: int = 2500  # clones by the mean, per event; nearly every Gaussian passes tau_avg while errors are large
    clone_peaks: float = 0.03  # share of the Gaussians with the largest peak errors that is cloned
    gradient: float = 2e-4  # split (and with "gradient" clone) where the mean gradient on the screen is larger
    split_size: float = 0.01  # only Gaussians larger than this share of `extent` are split
    extent: float = 0.3  # metres; the head's size
    prune_opacity: float = 0.01
    most: int = 150_000  # Gaussians are not added beyond this number
    uv: Literal["redraw", "inherit"] = "redraw"  # texture coordinates after an event: all anew (paper), or the parent's

    def __post_init__(self) -> None:
        for name in ("error_ssim", "clone_peaks", "split_size", "prune_opacity"):
            _check_range(f"density.{name}", getattr(self, name), 0, 1)
        for name in ("clone_mean", "clone_most", "gradient"):
            _check_range(f"density.{name}", getattr(self, name), 0)
        _check_range("density.most", self.most, 0, 10_000_000)
        _check_range("density.extent", self.extent, 0, open_low=True)


@dataclass(frozen=True)
class TrainingConfig:
    """Objective and rates (METHOD section 4)."""

    epochs: float = 6.0  # passes over the training frames
    steps: int | None = None  # a fixed number of steps instead, so that clips of any length take the same time
    batch: int = 1  # frames per step
    network_start: float = 0.0  # fraction of training before the offset network joins in
    seed: int = 0
    # How the rates of Gaussians and network grow with `batch`: by its root (and Adam's moments forget sooner), as it
    # does, or not at all. Poses keep theirs: each frame has its own.
    batch_rates: Literal["sqrt", "linear", "same"] = "sqrt"
    frames: Literal["auto", "device", "host"] = "auto"  # pictures wait on the GPU, or in memory until they are due
    graphs: bool = True  # on a GPU, replay whole steps as CUDA graphs
    # Of the network's convolutions on a GPU, and on CPUs with instructions for it; weights and results stay float32.
    precision: Literal["bf16", "fp32"] = "bf16"
    # Adam's learning rates.
    lr_network: float = 1e-4
    lr_position: float = 5e-3
    lr_position_final: float = 5e-5
    lr_color: float = 2.5e-3
    lr_opacity: float = 0.05
    lr_scale: float = 0.017
    lr_rotation: float = 1e-3
    decay: float = 1.0  # all rates but the position's end at this factor of their start
    decay_start: float = 0.3  # fraction of training at which that decay begins
    sh_interval: int = 1000  # frames seen between increases of the SH degree
    # Weights of the loss parts (eq. 12 to 14).
    ssim: float = 0.2  # lambda 1
    lpips: float = 0.05  # lambda 2
    lpips_start: float = 0.5  # fraction of training after which LPIPS counts
    offset_scale: float = 1e-2  # lambda 3
    offset_color: float = 1e-3  # lambda 4
    position: float = 0.01
    scale: float = 1.0
    # Where results go and how often.
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        _check_range("training.epochs", self.epochs, 0, 1000, open_low=True)
        _check_range("training.steps", self.steps, 1, 10_000_000)
        _check_range("training.batch", self.batch, 1, 1024)
        _check_range("training.seed", self.seed, 0, (1 << 63) - 1)
        _check_range("training.sh_interval", self.sh_interval, 1)
        _check_range("training.decay", self.decay, 0, 1, open_low=True)
        for name in ("network_start", "decay_start", "lpips_start", "ssim"):
            _check_range(f"training.{name}", getattr(self, name), 0, 1)
        for name in ("network", "color", "opacity", "scale", "rotation"):
            _check_range(f"training.lr_{name}", getattr(self, f"lr_{name}"), 0)
        for name in ("lr_position", "lr_position_final"):
            _check_range(f"training.{name}", getattr(self, name), 0, open_low=True)
        for name in ("lpips", "offset_scale", "offset_color", "position", "scale", "checkpoint_seconds"):
            _check_range(f"training.{name}", getattr(self, name), 0)


@dataclass(frozen=True)
class Config:
    """One run, from video to avatar."""

    preset: str = "paper"
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    gaussians: GaussiansConfig = field(default_factory=GaussiansConfig)
    pose: PoseConfig = field(default_factory=PoseConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    density: DensityConfig = field(default_factory=DensityConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


def paper() -> Config:
    """The published settings: 512 pixels, the whole network, six epochs. Poses come from photometric tracking."""
    return Config(preset="paper", capture=CaptureConfig(size=512))


def cpu() -> Config:
    """For two CPU cores: 256 pixels and a narrow network over small maps."""
    return Config(
        preset="cpu",
        capture=CaptureConfig(size=256, max_frames=720),
        network=NetworkConfig(
            uv_size=64,
            width=0.25,
            encoder="free",
            init="kaiming",
            displacement="expression",
            offset_frame="face",
            position_range=0.02,
            scale_range=1.5,
        ),
        gaussians=GaussiansConfig(
            scale=0.6, thickness=0.3, opacity=0.5, reference="best", color="reference", seeds=1500, sh_degree=0
        ),
        pose=PoseConfig(
            expression=1e-3,
            rotation=1e-3,
            neck=1e-3,
            translation=1.5e-4,
            neck_translation=1.5e-4,
            decay=0.3,
            neighbours=0.6,
        ),
        schedule=ScheduleConfig(order="shuffled", final=0.2),
        density=DensityConfig(clone_most=300, most=16_000, uv="inherit"),
        training=TrainingConfig(steps=3600, lr_network=3e-4, decay=0.1, scale=0.02, lpips=0.0),
    )


def gpu() -> Config:
    """For a CUDA GPU: 512 pixels and the paper's network, four frames a step, poses, hair and colours as with `cpu`."""
    narrow = cpu()
    return replace(
        narrow,
        preset="gpu",
        capture=CaptureConfig(size=512),
        network=NetworkConfig(
            reference="mean",
            init="kaiming",
            offset_frame="face",
            position_range=0.02,
            scale_range=1.5,
        ),
        gaussians=replace(narrow.gaussians, seeds=4000, sh_degree=2),
        density=DensityConfig(uv="inherit"),
        training=replace(narrow.training, steps=None, epochs=20.0, batch=4, lr_network=3e-4, lpips=0.05),
    )


PRESETS = {"paper": paper, "cpu": cpu, "gpu": gpu}


def preset(name: str) -> Config:
    """The configuration called `name`.

    Raises:
        InputError: there is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


def override(config: Config, assignments: list[str]) -> Config:
    """Apply assignments such as ``training.epochs=3`` to a configuration.

    Raises:
        InputError: an assignment names no field, or its value has the wrong type.
    """
    tree = dataclasses.asdict(config)
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        section, _, name = key.strip().partition(".")
        known = tree.get(section)
        if not separator or not isinstance(known, dict) or name not in known:
            raise InputError(f"--set {assignment}: expected section.field=value with a field of the configuration")
        known[name] = parse_yaml(text, f"--set {assignment}: the value")
    return from_dict(tree, source="--set")


def from_dict(tree: dict[str, Any], *, source: str) -> Config:
    """Build a configuration from plain data, checking every field's name and type; `source` goes into errors."""
    return typing.cast(Config, _build(Config, tree, source, source))


def save(config: Config, path: Path) -> None:
    """Write a configuration as YAML."""
    write_text(path, yaml.safe_dump(to_dict(config), sort_keys=False))


def to_dict(config: Config) -> dict[str, Any]:
    """A configuration as plain data that YAML can hold; :func:`from_dict` reads it back."""
    sections = dataclasses.asdict(config)
    return {
        name: {key: list(value) if isinstance(value, tuple) else value for key, value in section.items()}
        if isinstance(section, dict)
        else section
        for name, section in sections.items()
    }


def load(path: Path) -> Config:
    """Read a configuration written by :func:`save` or by hand; fields left out keep their defaults.

    Raises:
        InputError: the file is missing, not YAML, or has an unknown field or a value of the wrong type.
    """
    return from_dict(read_yaml(path), source=str(path))


def _build(kind: type, tree: Any, source: str, origin: str) -> Any:
    if not isinstance(tree, dict):
        raise InputError(f"{source}: expected a mapping of settings, found {type(tree).__name__}")
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in tree.items():
        if name not in hints:
            raise InputError(f"{source}: {_shown(name)} is not a setting; known are {', '.join(hints)}")
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            values[name] = _build(typing.cast(type, hint), value, f"{source}: {name}", origin)
        else:
            values[name] = _checked(hint, value, f"{source}: {name}")
    try:
        return kind(**values)
    except InputError as error:  # of a value out of range, which a section names in full
        raise InputError(f"{origin}: {error}") from error


def _checked(hint: Any, value: Any, source: str) -> Any:
    """`value` converted to the type `hint`, or an error that says what was expected."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value in arguments:
            return value
        raise InputError(f"{source} must be one of {', '.join(map(str, arguments))}, not {_shown(value)}")
    if origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(_checked(arguments[0], item, source) for item in value)
        raise InputError(f"{source} must be a list, not {_shown(value)}")
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _checked(next(kind for kind in arguments if kind is not type(None)), value, source)
    # YAML 1.1 reads 1e-3 as text
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)
    if type(value) is not hint:
        raise InputError(f"{source} must be of type {hint.__name__}, not {_shown(value)}")
    if (hint is float and not math.isfinite(value)) or (hint is int and abs(value) >= 1 << 63):
        raise InputError(f"{source} must be a finite number, or a whole one of at most 63 bits, not {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    """A value as part of a sentence."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a huge number"
    return text if len(text) <= 60 else f"{text[:57]}..."
