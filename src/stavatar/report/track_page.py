"""``track_report.html``: how well tracking went, on one self-contained page, put together from the files of the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stavatar.errors import InputError
from stavatar.files import read_json, write_text
from stavatar.report import charts, media
from stavatar.report.charts import Plot, plot, stage_bars
from stavatar.report.media import Picture
from stavatar.report.templates import environment
from stavatar.run import Run

SHOWN_FRAMES = 3
"""So many of the worst and of the best frames are shown."""

TRACKED = 0
"""The state of a frame that is learned from; the others' colours are those of the overlay video."""

_APART = 10  # shown frames keep a distance of this part of the clip, or one bad moment would fill the page


@dataclass(frozen=True)
class ShownFrame:
    """A frame with its overlay, and what is said of it."""

    caption: str
    picture: Picture


def write_track_report(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a tracked run to `out`, ``track_report.html`` in the run where None; returns its path.

    Raises:
        InputError: the folder holds no run or no figures of a track, or they cannot be read.
    """
    run = Run.open(folder)
    if not run.tracking_figures.exists():
        raise InputError(f"{folder} has no {run.tracking_figures.name}: only runs that began with a video have one")
    path = run.track_report if out is None else Path(out)
    try:
        content = _content(run, read_json(run.tracking_figures))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{run.tracking_figures} does not hold the figures of a track: {error!r}") from error
    write_text(path, environment().get_template("track.html.jinja").render(**content))
    return path


def _content(run: Run, track: dict[str, Any]) -> dict[str, Any]:
    """What the template shows."""
    frames, state = track["frames"], track["state"]
    worst, best = _shown(run, track)
    curves = [plot(heading, unit, frames, values, kinds=state) for heading, (unit, values) in track["curves"].items()]
    return {
        "charts": charts,
        "track": track,
        "tiles": _tiles(track),
        "left_out": [
            (number, words, state.count(number))
            for number, words in enumerate(track["states"])
            if number != TRACKED and number in state
        ],
        "confidence": _kept(
            plot("Confidence", "", frames, {"confidence": track["confidence"]}, kinds=state),
            plot("Landmark error", "% of the eye distance", frames, {"error": track["landmark_error"]}, kinds=state),
        ),
        "curves": _kept(*curves),
        "spectra": _kept(
            _spectrum("Rotation of the head", "° per √Hz, over Hz", track["spectra"]["rotation"]),
            _spectrum("Place of the head", "mm per √Hz, over Hz", track["spectra"]["place"]),
        ),
        "worst": worst,
        "best": best,
        "video": media.film(run.tracking_video),
        "seconds": stage_bars(run.seconds),
    }


def _kept(*plots: Plot | None) -> list[Plot]:
    return [chart for chart in plots if chart is not None]


def _spectrum(title: str, unit: str, spectrum: dict[str, Any]) -> Plot | None:
    return plot(title, unit, spectrum["hertz"], {"density": spectrum["density"]}, decades=True)


def _tiles(track: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures that a reader looks for first: label and text."""
    figures, steadiness = track["figures"], track["steadiness"]
    return [
        ("Frames", f"{figures['frames']}"),
        ("Learned from", f"{figures['tracked']}"),
        ("Landmark error", f"{figures['landmark_error']['all']:.2f} %"),
        ("Lips", f"{figures['landmark_error']['lips']:.2f} %"),
        ("Eye distance", f"{figures['eye_distance']:.0f} px"),
        ("Step of rotation", f"{steadiness['rotation']:.2f}°"),
        ("Step of place", f"{steadiness['place']:.2f} mm"),
        ("Focal length", f"{figures['focal']:.0f} px"),
    ]


def _shown(run: Run, track: dict[str, Any]) -> tuple[list[ShownFrame], list[ShownFrame]]:
    """Worst and best frames by landmark error, cut from the overlay video, which holds all frames in order."""
    error = track["landmark_error"]
    order = sorted((value, place) for place, value in enumerate(error) if value is not None)
    worst = _spread([place for _, place in reversed(order)], len(error))
    best = _spread([place for _, place in order if place not in worst], len(error))
    if not run.tracking_video.exists():
        return [], []
    pictures = media.video_frames(run.tracking_video, {*worst, *best})

    def shown(places: list[int]) -> list[ShownFrame]:
        return [
            ShownFrame(f"frame {track['frames'][place]}: {error[place]:.2f} %", media.embed(pictures[place], 640))
            for place in places
            if place in pictures
        ]

    return shown(worst), shown(best)


def _spread(places: list[int], frames: int) -> list[int]:
    """The first few of `places` that are not next to each other."""
    chosen: list[int] = []
    for place in places:
        if len(chosen) < SHOWN_FRAMES and all(abs(place - other) >= frames / _APART for other in chosen):
            chosen.append(place)
    return chosen
