"""The viewer's server, without a browser and with one."""

import dataclasses
import re
import threading
import time

import numpy as np
import pytest
from chromium import PROGRAM, browser
from PIL import Image

from stavatar.errors import InputError
from stavatar.viewer import app
from stavatar.viewer.app import Viewer
from stavatar.viewer.scene import Scene

pytest.importorskip("viser", reason="the extra `viewer` is not installed")

from scripted_browser import camera, open_page, pack, setting
from stavatar.viewer import guard


@pytest.fixture
def viewer(small_avatar_folder, tmp_path):
    viewer = Viewer(Scene([small_avatar_folder]), host="127.0.0.1", port=0, pictures=tmp_path / "pictures")
    yield viewer
    viewer.close()


class Browser:
    """Stands in for a browser's handle: keeps what it is sent."""

    client_id = 7

    def __init__(self):
        self.scene = self
        self.pictures, self.notes = [], []

    def set_background_image(self, image, **_):
        self.pictures.append(image)

    def add_notification(self, title, body, **_):
        self.notes.append((title, body))


@pytest.fixture
def looking(viewer):
    """A browser that looks from home."""
    client = app._Client(Browser())
    position, _, fov = viewer.scene.home()
    client.pose = position, np.array([0.0, 1.0, 0.0, 0.0]), fov, 1.5
    viewer._clients[7] = client
    viewer.controls.height.value = 128
    return client


@dataclasses.dataclass
class Click:
    client_id: int = 7


def wait_until(true, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def test_a_picture_is_sent_when_something_changed_and_only_then(viewer, looking):
    looking.moved = viewer._changed_at = 0.0
    viewer.step()
    viewer.step()
    assert [picture.shape for picture in looking.handle.pictures] == [(128, 192, 3)]
    viewer.controls.frame.value = 5
    viewer._changed_at = 0.0
    viewer.step()
    assert len(looking.handle.pictures) == 2
    assert not np.array_equal(*looking.handle.pictures)


def test_playing_moves_on_by_the_time_that_passed_and_starts_over(viewer, looking, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    viewer.controls.play.value = True
    viewer.step()
    assert viewer.controls.frame.value == 0
    clock[0] += 0.13  # at 25 frames per second
    viewer.step()
    assert viewer.controls.frame.value == 3
    viewer.controls.speed.value = 2.0
    clock[0] += 0.2
    viewer.step()
    assert viewer.controls.frame.value == 3  # 13 of 10
    viewer.controls.play.value = False
    clock[0] += 1.0
    viewer.step()
    assert viewer.controls.frame.value == 3


def test_screenshots_and_turntables_go_where_the_command_line_said(viewer, looking, tmp_path):
    assert not (tmp_path / "pictures").exists()
    for _ in range(2):
        viewer._order(Click(), viewer._take_screenshot)
    viewer._order(Click(client_id=99), viewer._take_screenshot)  # nobody
    viewer.controls.seconds.value = 2
    viewer._order(Click(), viewer._take_turntable)
    viewer.step()
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["screenshot-001.png", "screenshot-002.png", "turntable-001.mp4"]
    with Image.open(tmp_path / "pictures" / "screenshot-001.png") as picture:
        assert picture.size == (192, 128)
    assert [title for title, _ in looking.handle.notes] == ["written"] * 3


def test_what_cannot_be_written_is_told_in_the_browser(viewer, looking, tmp_path):
    (tmp_path / "pictures").write_text("a file in the folder's place")
    viewer._order(Click(), viewer._take_screenshot)
    viewer.step()
    assert looking.handle.notes[0][0] == "not written"


def test_the_sliders_go_back_to_zero(viewer):
    viewer.controls._expressions["jawOpen"].value = 0.5
    viewer.controls._neck[1].value = 12.0
    assert viewer.controls.look().expression == (("jawOpen", 0.5),)
    assert viewer.controls.look().neck == (0.0, 12.0, 0.0)
    viewer.controls._to_zero()
    assert viewer.controls.look().expression == ()


HOSTILE = (1e6, -1e6, 0, 0.5, True, "", "nan", "inf", "rest", [], [1e6] * 4, [-5.0], [0.0, 0.0, 999.0], ["a", 1, 2])


def test_no_value_of_a_widget_ends_the_viewer(viewer, looking, monkeypatch, caplog):
    """A browser may send any value for any widget; what it does not offer changes nothing."""
    monkeypatch.setattr(guard, "MESSAGES_PER_SECOND", 1e9)
    widgets = viewer._server.gui._gui_input_handle_from_uuid
    assert len(widgets) > 65
    kinds = {uuid: type(widget.value) for uuid, widget in widgets.items()}
    with open_page(viewer.url, close_timeout=0.1) as page:  # which reads nothing
        for number, value in enumerate(HOSTILE, 1):
            page.send(pack(camera()))
            for uuid in widgets:
                page.send(pack(setting(uuid, value)))
            page.send(pack(camera(fov=number / 20)))  # when this has arrived, all before have
            wait_until(lambda: _views(viewer) == [number / 20])  # noqa: B023
            look = viewer.controls.look()
            if value == 0.5:
                assert dict(look.expression)["jawOpen"] == 0.5, "what a slider does offer is taken"
            assert all(-1 <= score <= 1 for _, score in look.expression)
            assert all(abs(angle) <= 30 for angle in (*look.neck, *look.gaze, *look.jaw))
            assert len(look.background) == 3 and min(look.background) >= 0 and max(look.background) <= 1
            assert 128 <= viewer.controls.height.value <= 1024
            viewer._orders.queue.clear()  # of screenshots: buttons are widgets as well
            viewer.step()
    assert {uuid: type(widget.value) for uuid, widget in widgets.items()} == kinds
    assert looking.handle.pictures
    assert caplog.records == []


def _views(viewer):
    return [client.pose[2] for number, client in viewer._clients.items() if number != 7 and client.pose is not None]


def test_what_widgets_offer(viewer):
    controls = viewer.controls

    def offered(widget, *values):
        return [value for value in values if controls.offer(widget._impl.uuid, value)]

    assert offered(controls.height, 128.0, 512.0, 1024.0, 127.0, 1025.0, "512", True, [512.0]) == [128.0, 512.0, 1024.0]
    assert offered(controls.play, True, False, 1.0, "yes") == [True, False]
    assert offered(controls._base, "rest", "recorded motion", "camera", "neutral", True) == ["rest", "recorded motion"]
    assert offered(controls._background, [0.0, 9.0, 255.0], [0.0, 9.0], [0.0, 9.0, 256.0], "red") == [[0.0, 9.0, 255.0]]
    assert offered(controls.turntable, True, "x") == [True]
    assert not controls.offer("nobody", 1.0)


def test_clicks_do_not_pile_up(viewer, looking, tmp_path):
    for _ in range(1000):
        viewer._order(Click(), viewer._take_screenshot)
    assert viewer._orders.qsize() == 4
    viewer.step()
    assert len(list((tmp_path / "pictures").iterdir())) == 4
    viewer._order(Click(), viewer._take_screenshot)
    assert viewer._orders.qsize() == 1, "those that were carried out count no more"


def test_a_camera_that_went_away_is_shown(viewer, looking):
    class Camera:
        failure, latest, waiting = None, None, True

        def close(self):
            pass

    viewer._live = Camera()
    viewer.step()
    assert "plug it in" in viewer.controls._status.content
    viewer._live.waiting = False
    viewer.step()
    assert "plug it in" not in viewer.controls._status.content


def test_the_embedded_head_has_no_jaw_sliders(viewer):
    assert viewer.controls._jaw == []


def test_without_viser_one_sentence_says_what_to_install(small_avatar_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "viser", None)
    with pytest.raises(InputError, match=r"pip install 'stavatar\[viewer\]'"):
        Viewer(Scene([small_avatar_folder]), host="127.0.0.1", port=0, pictures=tmp_path)


def test_serving_to_others_is_warned_of(small_avatar_folder, monkeypatch, capsys):
    import torch

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Viewer, "run", interrupted)
    opened = []
    monkeypatch.setattr(app.webbrowser, "open", opened.append)
    app.serve([small_avatar_folder], host="0.0.0.0", port=0, device=torch.device("cpu"))
    told = capsys.readouterr().err
    assert "the viewer is open to other machines" in told
    assert "from other machines: http://" in told
    assert len(opened) == 1
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{24}/", opened[0]), "the browser is given the token"
    app.serve([small_avatar_folder], port=0, open_browser=False, device=torch.device("cpu"))
    assert "other machines" not in capsys.readouterr().err
    assert len(opened) == 1


SLIDER = "[...document.querySelectorAll('label')].find(label => label.innerText == '{}')"


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")
def test_a_real_browser_sees_the_avatar_and_moves_its_mouth(viewer, tmp_path):
    drawing = threading.Thread(target=viewer.run, daemon=True)
    drawing.start()
    with browser(tmp_path / "profile") as page:
        page.open(viewer.url)
        page.wait_for("document.querySelectorAll('[role=tab]').length >= 4")

        def settled(before=None):
            """The part of the page left of the panel, once it shows something else than before and rests."""
            last, deadline = None, time.monotonic() + 60
            while time.monotonic() < deadline:
                time.sleep(1.0)
                now = page.picture()[:, 310:690].astype(int)
                fresh = now.std() > 5 if before is None else np.abs(now - before).max() > 25
                if last is not None and fresh and np.abs(now - last).max() < 3:
                    return now
                last = now
            raise AssertionError("the picture never came to rest")

        first = settled()
        page.click("[...document.querySelectorAll('[role=tab]')].find(tab => tab.innerText.includes('Face'))")
        page.wait_for(f"!!({SLIDER.format('open')})")
        row = f"document.getElementById({SLIDER.format('open')}.htmlFor)"
        thumb = f"({row}.querySelector('[role=slider]') ?? {row}.closest('div').querySelector('[role=slider]'))"
        page.run(f"void {thumb}.focus()")
        page.press("End")
        opened = settled(first)
        change = np.abs(opened - first).mean(2)
        rows, columns = np.nonzero(change > 25)
        assert len(rows) > 50
        face = np.argwhere(first.min(2) < 200)
        top, bottom = face[:, 0].min(), face[:, 0].max()
        assert np.median(rows) > top + 0.35 * (bottom - top), "the lower half of the face moves"
        assert np.abs(np.median(columns) - np.median(face[:, 1])) < 60

        page.drag((450, 500), (560, 480))
        turned = settled(opened)
        assert np.abs(turned - opened).mean() > 2
        assert page.errors == []
