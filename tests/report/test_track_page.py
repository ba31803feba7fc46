"""The page of a track: whole, self-contained, and harmless."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_page import Page

from stavatar import config
from stavatar.containers import write_video
from stavatar.errors import InputError
from stavatar.files import write_json
from stavatar.report.track_page import write_track_report
from stavatar.run import Run

FRAMES = 40
HOSTILE = "<script>alert(1)</script>"


def figures() -> dict:
    """Forty frames of which 10 to 14 are bridged and 30 is doubted; errors grow with the frame."""
    state = [2 if 10 <= t < 15 else 1 if t == 30 else 0 for t in range(FRAMES)]
    error = [None if s == 2 else 0.5 + 0.01 * t for t, s in enumerate(state)]
    return {
        "name": HOSTILE,
        "fps": 25.0,
        "history": {"tracker": "landmarks-1"},
        "frames": list(range(100, 100 + FRAMES)),
        "confidence": [0.0 if s == 2 else 0.9 for s in state],
        "states": ["tracked", "left out: landmarks do not fit", "left out: bridged over a gap", "left out: no face"],
        "state": state,
        "landmark_error": error,
        "curves": {
            "Rotation of the head": ["°", {"to its left": [0.1 * t for t in range(FRAMES)], "down": [1.0] * FRAMES}],
            "Mouth, open": ["eye distances", {"lips apart": [0.2] * FRAMES}],
        },
        "spectra": {name: {"hertz": [1.0, 2.0, 3.0], "density": [1.0, 0.1, 0.01]} for name in ("rotation", "place")},
        "steadiness": {"rotation": 0.12, "place": 0.34},
        "figures": {
            "frames": FRAMES,
            "tracked": 34,
            "eye_distance": 81.0,
            "landmark_error": {"all": 1.23, "inner face": 1.0, "lips": 1.4},
            "focal": 640.0,
        },
        "advice": [{"topic": "small face", "reason": HOSTILE, "remedy": "come closer", "frames": "3-7", "count": 5}],
    }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.start(tmp_path / "run", config.preset("cpu"), {"source": "me.mp4"}, resume=False)
    write_json(run.tracking_figures, figures())
    write_video(run.tracking_video, [np.full((64, 64, 3), 5 * t, np.uint8) for t in range(FRAMES)], 25.0)
    run.record("tracking", 12.5)
    return run


def test_the_page_shows_everything_and_loads_nothing(run: Run) -> None:
    text = write_track_report(run.folder).read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text and "&lt;script&gt;" in text
    for words in ("Rotation of the head", "1.23 %", "Come closer", "Frames 3-7", "12.5", "bridged over a gap (5)"):
        assert words in text, words
    assert "no face" not in text, "a state that no frame has"
    assert text.count('class="band2"') == 4 and text.count('class="band1"') == 4, "on each chart over frames"
    assert text.count("<polyline") >= 7
    assert 'src="data:video/mp4' in text and 'src="http' not in text
    assert page is not None
    assert "frame 139: 0.89 %" in text and "frame 100: 0.50 %" in text, "the worst and the best frame"


def test_without_a_video_and_with_nothing_to_say(run: Run) -> None:
    run.tracking_video.unlink()
    write_json(run.tracking_figures, {**figures(), "advice": [], "state": [0] * FRAMES})
    text = write_track_report(run.folder).read_text(encoding="utf-8")
    assert "Nothing speaks against this clip" in text and "All frames can be learned from" in text
    assert "<video" not in text and "Worst frames" not in text


def test_what_is_not_there_or_broken_is_said(run: Run, tmp_path: Path) -> None:
    broken = figures()
    del broken["curves"]
    run.tracking_figures.write_text(json.dumps(broken))
    with pytest.raises(InputError, match=r"tracking\.json does not hold"):
        write_track_report(run.folder)
    run.tracking_figures.unlink()
    with pytest.raises(InputError, match="only runs that began with a video"):
        write_track_report(run.folder)
