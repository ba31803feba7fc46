"""A video file is opened and nothing else: lists, playlists and the like lead nowhere."""

from __future__ import annotations

import socket
from pathlib import Path

import av
import numpy as np
import pytest

from stavatar.containers import open_video
from stavatar.errors import InputError


def store(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        for level in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_video_is_opened(tmp_path):
    with open_video(store(tmp_path / "clip.mp4")) as (container, stream):
        assert [frame.width for frame in container.decode(stream)] == [64] * 5


def test_a_name_with_a_pattern_is_one_file(tmp_path):
    """FFmpeg would take it for clip1.mp4, clip2.mp4 and so on, were it given the name."""
    with open_video(store(tmp_path / "clip%d.mp4")) as (_, stream):
        assert stream.frames == 5


def test_a_list_of_files_is_not_followed(tmp_path):
    store(tmp_path / "other.mp4")
    clip = tmp_path / "clip.mp4"
    clip.write_text("ffconcat version 1.0\nfile other.mp4\n")
    with av.open(str(clip)) as container:  # what it would be without care
        assert sum(1 for _ in container.decode(video=0)) == 5
    with pytest.raises(InputError, match=r"clip\.mp4 is not a video that can be read"), open_video(clip):
        pass


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S">'
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{url}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>"
)
CONCAT = "ffconcat version 1.0\nfile {url}\n"


@pytest.mark.parametrize("text", [HLS, DASH, CONCAT], ids=["HLS", "DASH", "concat"])
@pytest.mark.parametrize("scheme", ["http", "tcp", "rtmp"])
def test_no_host_is_asked(tmp_path, text, scheme):
    clip = tmp_path / "clip.mp4"
    with socket.create_server(("127.0.0.1", 0)) as host:
        host.settimeout(0.05)
        clip.write_text(text.format(url=f"{scheme}://127.0.0.1:{host.getsockname()[1]}/a.mp4"))
        with pytest.raises(InputError, match="is not a video that can be read"), open_video(clip):
            pass
        with pytest.raises(TimeoutError):
            host.accept()


def test_options_that_pyav_no_longer_knows_are_not_given(tmp_path, monkeypatch):
    """PyAV 19 took away `metadata_errors`, and refuses what it does not know."""
    path, opened = store(tmp_path / "clip.mp4"), av.open

    def of_19(file, mode, *, options, buffer_size):
        return opened(file, mode, options=options, buffer_size=buffer_size)

    monkeypatch.setattr(av, "__version__", "19.0.2")
    monkeypatch.setattr(av, "open", of_19)
    with open_video(path) as (container, stream):
        assert len(list(container.decode(stream))) == 5
