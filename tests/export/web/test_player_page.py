"""The page in a real browser: headless Chromium, with WebGL 2 in software."""

import functools
import http.server
import io
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from stavatar.avatar.avatar import render
from stavatar.camera import Camera
from stavatar.evaluation.metrics import psnr
from stavatar.export.web.package import read_package
from stavatar.export.web.page import export_page
from stavatar.export.web.site import export_site
from stavatar.head.posing import JOINTS

SIZE = 192
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SOFTWARE_GL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright: pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *SOFTWARE_GL, *QUIET])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Serve a folder and open it: (page, what went wrong in the console or on the network)."""
    servers, pages = [], []

    def open_folder(folder, query=""):
        handler = functools.partial(QuietHandler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page, problems = browser.new_page(viewport={"width": 900, "height": 700}), []
        pages.append(page)
        page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(request.url))
        page.goto(f"http://127.0.0.1:{server.server_port}/{query}")
        return page, problems

    yield open_folder
    for page in pages:
        page.close()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def plain_site(true_avatar, motion, tmp_path_factory):
    """A site without a network: nothing but the mesh moves its Gaussians."""
    folder = tmp_path_factory.mktemp("plain") / "site"
    return folder, export_site(folder, true_avatar, motion)


@pytest.fixture
def still_page(open_page, site):
    """The page of the tests' avatar at a fixed size, stopped at frame 0."""
    page, problems = open_page(site[0], f"?size={SIZE}")
    page.evaluate("async () => { await playerReady; player.seek(0); await player.settled(); }")
    return page, problems


def picture(page, script="") -> torch.Tensor:
    """What the canvas shows once `script` has run and the picture has followed: [1, H, W, 3] in [0, 1]."""
    page.evaluate(f"async () => {{ {script}; await player.settled(); }}")
    with Image.open(io.BytesIO(page.locator("#picture").screenshot())) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 255)[None]


def rendered(site, parameters, camera: Camera) -> torch.Tensor:
    return render(read_package(site[0])(parameters), camera.resized(SIZE, SIZE)).image.clamp(0, 1)


def test_the_picture_is_the_packages_render(still_page, site, motion):
    page, problems = still_page
    for frame in (0, 9):
        shown = picture(page, f"player.seek({frame})")
        expected = rendered(site, motion.parameters[[frame]], motion.camera)
        assert shown.shape == expected.shape
        assert expected.std() > 0.1, "the picture must show something"
        assert psnr(shown, expected) > 40
    assert problems == []


def test_orbiting_and_zooming_move_the_camera_around_the_head(still_page, site, avatar, motion):
    """The same as a camera of the package, turned about the middle of the skull."""
    page, _ = still_page
    shown = picture(page, "player.orbit.yaw = 0.5; player.orbit.pitch = 0.3; player.orbit.zoom = 0.8")
    joints = avatar.head(avatar.shape, motion.parameters[[0]]).joints[0]
    neck, left, right = (joints[JOINTS.index(name)] for name in ("neck", "left_eye", "right_eye"))
    target = neck / 2 + (left + right) / 4
    recorded = motion.camera
    # The recorded camera of these tests looks along -z past the origin: orbit about where the target is seen.
    orbit = Camera.orbit(target, 1.0, torch.tensor([0.5]), torch.tensor([0.3]), 1.0, SIZE, SIZE)
    pose = orbit.world_to_camera.clone()
    at = recorded.to_camera(target[None, None])[0, 0]
    pose[0, :3, 3] = 0.8 * at - pose[0, :3, :3] @ target
    camera = Camera(pose, recorded.focal, recorded.center, recorded.width, recorded.height)
    assert psnr(shown, rendered(site, motion.parameters[[0]], camera)) > 40


def test_a_slider_opens_the_mouth_and_moves_nothing_else(open_page, plain_site, true_avatar, motion):
    page, _ = open_page(plain_site[0], f"?size={SIZE}")
    before = picture(page, "await playerReady; player.seek(0)")
    after = picture(page, 'player.set("Open mouth", 0.6)')
    change = (after - before).abs().amax(-1)[0]
    head = true_avatar.head
    mesh = head(true_avatar.shape, motion.parameters[[0]]).vertices
    camera = motion.camera.resized(SIZE, SIZE)

    def change_at(region):
        column, row = camera.project(mesh[:, head.faces[head.faces_in(region)].unique()])[0].mean(0).long().tolist()
        return change[row - 6 : row + 6, column - 8 : column + 8]

    assert change_at("lips").mean() > 0.05
    assert change_at("forehead").max() < 0.01


def test_sliders_can_be_reset_and_the_background_changed(still_page):
    page, _ = still_page
    before = picture(page)
    moved = picture(page, 'player.set("Turn head", 0.5)')
    assert (moved - before).abs().mean() > 0.005
    page.click("#reset")
    assert torch.equal(picture(page), before)
    page.evaluate(
        "() => { const g = document.getElementById('background'); g.value = '#ff0000';"
        "g.dispatchEvent(new Event('input')); }"
    )
    assert picture(page)[0, 0, 0].tolist() == [1, 0, 0]


def test_playing_moves_on_and_pausing_stops(still_page):
    page, problems = still_page
    page.click("#play")
    page.wait_for_function("player.playback.frame > 0", timeout=20_000)
    page.click("#play")
    frame = page.evaluate("player.playback.frame")
    page.wait_for_timeout(300)
    assert page.evaluate("player.playback.frame") == frame
    assert problems == []


def test_dragging_turns_the_head(still_page):
    page, _ = still_page
    before = picture(page)
    box = page.locator("#picture").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y)
    page.mouse.up()
    assert page.evaluate("player.orbit.yaw") == pytest.approx(-0.36, abs=0.05)
    assert (picture(page) - before).abs().mean() > 0.01
    page.dblclick("#picture")
    assert torch.equal(picture(page), before)


def test_an_avatar_without_a_network_is_played_too(open_page, plain_site, motion):
    page, problems = open_page(plain_site[0], f"?size={SIZE}&panel=0")
    shown = picture(page, "await playerReady; player.seek(4)")
    assert psnr(shown, rendered(plain_site, motion.parameters[[4]], motion.camera)) > 40
    assert not page.is_visible("#play")
    assert problems == []


def test_a_missing_file_is_told_on_the_page(open_page, site, tmp_path):
    shutil.copytree(site[0], tmp_path / "site")
    (tmp_path / "site" / "avatar.safetensors").unlink()
    page, _ = open_page(tmp_path / "site")
    page.wait_for_function("document.getElementById('message').textContent.includes('404')", timeout=20_000)
    assert "avatar.safetensors cannot be loaded" in page.inner_text("#message")


def test_the_single_page_plays_where_it_is_opened_as_a_file(browser, true_avatar, motion, plain_site, tmp_path):
    export_page(tmp_path / "avatar.html", true_avatar, motion)
    page, problems = browser.new_page(viewport={"width": 900, "height": 700}), []
    page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{(tmp_path / 'avatar.html').as_uri()}?size={SIZE}")
    shown = picture(page, "await playerReady; player.seek(4)")
    assert psnr(shown, rendered(plain_site, motion.parameters[[4]], motion.camera)) > 40
    assert not page.is_visible("#message")
    assert problems == []
    page.close()


def test_opened_as_a_file_the_page_says_what_to_do(browser, site):
    page = browser.new_page()
    page.goto((site[0] / "index.html").as_uri())
    assert "python -m http.server" in page.inner_text("#message")
    page.close()
