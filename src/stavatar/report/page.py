"""``report.html``: everything that a run has to show on one self-contained page.

The page is put together from the files of the run, so that it can be written again at any time. What a run does not
have (no tracking video where training began with a sequence, no picture of clusters where nothing was clustered) is
left out. Names and texts come from files that anybody may have written: the template engine escapes all of them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stavatar import config
from stavatar.config import Config
from stavatar.errors import InputError
from stavatar.evaluation.results_file import read_results
from stavatar.files import write_text
from stavatar.report import charts, media
from stavatar.report.charts import Chart, line_chart
from stavatar.report.media import Picture
from stavatar.report.templates import environment
from stavatar.run import Run

SHOWN_FRAMES = 3
"""So many of the worst and of the best frames are shown."""
MOST_VIDEO_BYTES = 5 << 20
"""Larger videos are not embedded: base64 makes them a third larger still."""
_STILLS = 4

PICTURES = {
    "curves": ("Learning curves", "Losses and measures over the steps of training."),
    "clusters": (
        "Clusters of frames",
        "Frames alike in expression and pose, which density control treats together.",
    ),
    "offsets": ("Offset maps", "What the network adds to the bound Gaussians, over the UV square."),
    "gaussians_uv": ("Gaussians over the surface", "Where on the UV square the Gaussians are."),
}
"""Pictures that training may leave in a run's ``pictures/``: their headings and what they show."""

METRIC_LABELS = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "l1": "L1",
    "lpips_alex": "LPIPS AlexNet, [-1, 1]",
    "lpips_vgg": "LPIPS VGG16, [-1, 1]",
    "lpips_alex_01": "LPIPS AlexNet, [0, 1]",
    "flicker": "Flicker",
    "expression": "Expression distance",
    "pose_degrees": "Pose distance, degrees",
    "face_shape_percent": "Face shape distance, %",
    "identity": "Identity",
}
_DECIMALS = {"psnr": 2, "ssim": 4, "pose_degrees": 2, "face_shape_percent": 2, "flicker": 5}


@dataclass(frozen=True)
class Row:
    """A line of a table of figures: name, definition, and a text per column."""

    label: str
    definition: str
    cells: list[str]


@dataclass(frozen=True)
class FrameStrip:
    """Input, render and error of a frame, and what is said of it."""

    caption: str
    picture: Picture


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a measured run to `out`, ``report.html`` in the run where None; returns its path.

    Raises:
        InputError: the folder holds no run or no results, or one of its files cannot be read.
    """
    run = Run.open(folder)
    if not run.results.exists():
        raise InputError(f"{folder} has no results yet: measure it with `stavatar evaluate {folder}`")
    results = read_results(run.results)
    path = run.report if out is None else Path(out)
    template = environment().get_template("page.html.jinja")
    write_text(path, template.render(**_content(run, results)))
    return path


def _content(run: Run, results: dict[str, Any]) -> dict[str, Any]:
    """What the template shows."""
    settings = config.load(run.config_path)
    worst, best = _frame_strips(run, results)
    return {
        "charts": charts,
        "results": results,
        "tiles": _tiles(results),
        "figures": _figures(results),
        "regions": _regions(results),
        "reenactment": _reenactment(results),
        "missing": {METRIC_LABELS.get(name, name): reason for name, reason in results["metrics_missing"].items()},
        "curves": _curves(results),
        "worst": worst,
        "best": best,
        "video": _video(run.side_by_side),
        "sheet": media.picture_file(run.contact_sheet) if run.contact_sheet.exists() else None,
        "pictures": _pictures(run),
        "tracking": _video(run.tracking_video),
        "tracking_stills": _stills(run.tracking_video),
        "settings": _settings(settings),
        "seconds": _seconds(results["stage_seconds"]),
    }


def format_figure(name: str, value: Any) -> str:
    """A figure as tables print it; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return f"{value:.{_DECIMALS.get(name, 4)}f}"


def _tiles(results: dict[str, Any]) -> list[tuple[str, str]]:
    """The handful of figures that a reader looks for first: label and text."""
    metrics, mouth = results["metrics"], results["metrics_regions"].get("mouth", {})
    figures = [
        ("PSNR", "psnr", metrics.get("psnr")),
        ("SSIM", "ssim", metrics.get("ssim")),
        ("LPIPS AlexNet", "lpips_alex", metrics.get("lpips_alex")),
        ("LPIPS VGG16", "lpips_vgg", metrics.get("lpips_vgg")),
        ("Mouth PSNR", "psnr", mouth.get("psnr")),
        ("Flicker", "flicker", metrics.get("flicker")),
    ]
    return [
        *((label, format_figure(name, value)) for label, name, value in figures),
        ("Frames a second", f"{results['speed']['single_fps']:.0f}"),
        ("Gaussians", f"{results['gaussians']:,}"),
    ]


def _figures(results: dict[str, Any]) -> list[Row]:
    columns = (results["metrics"], results["metrics_as_tracked"] or {})
    return [
        _row(results, name, [format_figure(name, column.get(name)) for column in columns])
        for name in results["metrics"]
        if name in results["metric_definitions"]
    ]


def _row(results: dict[str, Any], name: str, cells: list[str]) -> Row:
    declared = results["metric_definitions"].get(name)
    if declared is None:
        return Row(METRIC_LABELS.get(name, name), "", cells)
    network = f", {declared['network']} on {declared['input_range']}" if declared["network"] else ""
    return Row(
        METRIC_LABELS.get(name, name), f"{declared['definition']}{network}; {declared['better']} is better", cells
    )


def _regions(results: dict[str, Any]) -> list[Row]:
    return [
        Row(
            region.replace("_", " "),
            results["region_definitions"].get(region, ""),
            [format_figure(name, figures.get(name)) for name in ("psnr", "l1")] + [str(figures.get("frames"))],
        )
        for region, figures in results["metrics_regions"].items()
    ]


def _reenactment(results: dict[str, Any]) -> tuple[list[str], list[Row]]:
    """Column headings and rows; none where nothing was measured."""
    columns = {name: figures for name, figures in results["reenactment"].items() if figures}
    if not columns:
        return [], []
    headings = [
        f"held-out frames ({figures.get('frames')})"
        if name == "self"
        else f"driven by {figures.get('driver')} ({figures.get('frames')} frames)"
        for name, figures in columns.items()
    ]
    names = [name for name in METRIC_LABELS if any(name in figures for figures in columns.values())]
    rows = [_row(results, n, [format_figure(n, figures.get(n)) for figures in columns.values()]) for n in names]
    return headings, rows


def _curves(results: dict[str, Any]) -> list[Chart]:
    per_frame = results["per_frame"]
    found = []
    for name, values in per_frame.items():
        if name in results["metric_definitions"]:
            better = results["metric_definitions"][name]["better"] == "higher"
            label = METRIC_LABELS.get(name, name)
            found.append(line_chart(label, per_frame["frame"], values, higher_is_better=better))
    return [chart for chart in found if chart is not None]


def _frame_strips(run: Run, results: dict[str, Any]) -> tuple[list[FrameStrip], list[FrameStrip]]:
    """Worst and best frames by PSNR, cut from the side-by-side video, which holds the held-out frames in order."""
    frames, psnr = results["per_frame"]["frame"], results["per_frame"].get("psnr", [])
    order = sorted((value, position) for position, value in enumerate(psnr) if value is not None)
    worst = [position for _, position in order[:SHOWN_FRAMES]]
    best = [position for _, position in reversed(order[len(worst) :][-SHOWN_FRAMES:])]
    if not run.side_by_side.exists():
        return [], []
    pictures = media.video_frames(run.side_by_side, {*worst, *best})

    def strips(positions: list[int]) -> list[FrameStrip]:
        return [
            FrameStrip(f"frame {frames[position]}: {psnr[position]:.2f} dB", media.embed(pictures[position], 1536))
            for position in positions
            if position in pictures
        ]

    return strips(worst), strips(best)


def _video(path: Path) -> dict[str, Any] | None:
    """A video of the run: its name, and its data URI if it is small enough."""
    return {"name": path.name, "uri": media.video_file(path, MOST_VIDEO_BYTES)} if path.exists() else None


def _stills(path: Path) -> list[Picture]:
    """Some frames of a video that is too large to embed, or that is printed."""
    if not path.exists():
        return []
    last = media.video_length(path) - 1
    wanted = {round(last * k / (_STILLS - 1)) for k in range(_STILLS)}
    return [media.embed(picture, 512) for _, picture in sorted(media.video_frames(path, wanted).items())]


def _pictures(run: Run) -> list[tuple[str, str, Picture]]:
    """Heading, explanation and picture of each of `PICTURES` that the run has."""
    return [
        (heading, text, media.picture_file(run.folder / "pictures" / f"{name}.png"))
        for name, (heading, text) in PICTURES.items()
        if (run.folder / "pictures" / f"{name}.png").exists()
    ]


def _settings(settings: Config) -> dict[str, list[tuple[str, str, bool]]]:
    """Section -> (name, value, whether it differs from the preset's)."""
    usual = config.PRESETS[settings.preset]() if settings.preset in config.PRESETS else settings
    return {
        section.name: [
            (field.name, str(value), value != getattr(getattr(usual, section.name), field.name))
            for field in dataclasses.fields(part)
            for value in [getattr(part, field.name)]
        ]
        for section in dataclasses.fields(settings)
        if dataclasses.is_dataclass(part := getattr(settings, section.name))
    }


def _seconds(stages: dict[str, float]) -> list[tuple[str, float, float]]:
    """(stage, seconds, percent of the longest)."""
    longest = max(stages.values(), default=0) or 1
    return [(name.replace("_", " "), value, 100 * value / longest) for name, value in stages.items()]
