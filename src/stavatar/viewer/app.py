"""The viewer: a server whose pictures are drawn here, one after the other, for every browser that looks."""

from __future__ import annotations

import io
import math
import queue
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stavatar.camera import Camera
from stavatar.containers import write_video
from stavatar.drive import Retargeter, Retargeting
from stavatar.drive.live import LiveDriver, LiveFrame
from stavatar.errors import InputError
from stavatar.progress import remark, warn
from stavatar.rendering import save_image
from stavatar.viewer.address import listen
from stavatar.viewer.controls import Controls
from stavatar.viewer.look import Look
from stavatar.viewer.pace import Pace
from stavatar.viewer.scene import Scene, camera_at

if TYPE_CHECKING:
    import viser

STILL_SECONDS = 0.3
"""After so long without a change the picture is drawn at its full size."""

_TELL_SECONDS = 0.5  # between lines about pictures in motion
_MOST_ORDERS = 4  # of one browser, waiting at a time
_WIDEST = 3.0  # of a picture, in heights
_TURNTABLE_FPS = 25


def serve(
    avatars: list[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    open_browser: bool = True,
    pictures: Path = Path("stavatar-pictures"),
    camera: str | None = None,
    options: Retargeting | None = None,
    device: torch.device,
) -> None:
    """Show avatars in the browser until interrupted.

    Args:
        avatars: folders of avatars or runs; several stand side by side.
        host: address or name to serve at; others than this machine's own let other machines in.
        port: the port, or the next one that is free.
        open_browser: open the page.
        pictures: folder for screenshots and turntables, made when the first is taken.
        camera: number of a camera (or a video file) that drives the first avatar.
        options: how the camera drives.
        device: where to draw.

    Raises:
        InputError: viser is not installed, an avatar is damaged, nothing can be served at `host`, or there is no such
            camera.
    """
    scene = Scene(avatars, device)
    live = None
    if camera is not None:
        lead = scene.lead
        live = LiveDriver(camera, Retargeter(lead.motion, lead.head, options))
    viewer = Viewer(scene, host=host, port=port, pictures=pictures, live=live)
    try:
        remark(f"viewer: {viewer.url}  (Ctrl+C ends it)")
        if viewer.address.exposed:
            remark(f"from other machines: {viewer.guard.url_elsewhere}")
            warn(
                "the viewer is open to other machines: whoever has that address sees the avatar and can take pictures "
                "of it; nothing is encrypted, so keep to networks that you trust"
            )
        if open_browser:
            webbrowser.open(viewer.url)
        viewer.run()
    except KeyboardInterrupt:
        remark("viewer closed")
    finally:
        viewer.close()


@dataclass
class _Client:
    """One browser: its handle, its camera, what it was shown last, and how many orders of it wait."""

    handle: Any
    pose: tuple[np.ndarray, np.ndarray, float, float] | None = None  # position, wxyz, fov, aspect
    moved: float = 0.0
    shown: tuple[object, ...] = ()
    waiting: int = 0
    pace: Pace = field(default_factory=Pace)

    def camera(self, height: int) -> Camera:
        assert self.pose is not None
        position, wxyz, fov, aspect = self.pose
        width = max(16, round(height * min(aspect, _WIDEST)))
        return camera_at(position, wxyz, fov, width, height)


class Viewer:
    """Serves a scene. Callbacks of the server note what changed; one loop, :meth:`run`, draws.

    Args:
        scene: what is shown.
        host, port: where to serve; port 0 takes a free one.
        pictures: folder for screenshots and turntables.
        live: a camera that drives the first avatar; closed with the viewer.

    Raises:
        InputError: viser is not installed, or nothing can be served there.
    """

    def __init__(self, scene: Scene, *, host: str, port: int, pictures: Path, live: LiveDriver | None = None) -> None:
        _require_viser()
        from stavatar.viewer.guard import Guard, start_server

        self.scene = scene
        self._pictures = pictures
        self._live = live
        self._wake = threading.Event()
        self._stopped = False
        self._orders: queue.Queue[Callable[[], None]] = queue.Queue()
        self._clients: dict[int, _Client] = {}
        self._changed_at = 0.0
        self._played_at: float | None = None
        self._position = 0.0  # in frames, while playing
        self._told_at = 0.0
        self._told_waiting = False
        self._drawn = ""
        self.address = listen(host, port)
        self.guard = Guard(self.address)
        self._server = start_server(self.guard, label="stavatar")
        self._server.gui.configure_theme(show_share_button=False, show_logo=False)
        self._server.gui.main_panel.dock_right()
        self._server.scene.set_up_direction("+y")
        home = self._server.initial_camera
        position, target, home.fov = scene.home()
        scene.draw(Look(), camera_at(position, np.array([1.0, 0.0, 0.0, 0.0]), home.fov, 16, 16))  # compiles what draws
        home.position, home.look_at, home.up = position, target, np.array([0.0, 1.0, 0.0])
        self.controls = Controls(self._server, scene, live is not None, self._note_change)
        self.guard.offered = self.controls.offer
        self.controls.screenshot.on_click(lambda event: self._order(event, self._take_screenshot))
        self.controls.turntable.on_click(lambda event: self._order(event, self._take_turntable))
        if live is not None:
            self.controls.calibrate.on_click(lambda _: live.calibrate())
        self._server.on_client_connect(self._greet)
        self._server.on_client_disconnect(self._forget)

    @property
    def url(self) -> str:
        """For a browser on this machine, with the token that lets it in."""
        return self.guard.url

    def run(self) -> None:
        """Draw whatever has to be drawn until :meth:`close` is called."""
        while not self._stopped:
            self._wake.wait(self._patience())
            self._wake.clear()
            self.step()

    def close(self) -> None:
        """End the server and let go of the camera."""
        self._stopped = True
        self._wake.set()
        with redirect_stdout(io.StringIO()):
            self._server.stop()
        if self._live is not None:
            self._live.close()

    def step(self) -> None:
        """One round: carry out orders, let time pass, and draw for every browser that does not show the newest."""
        while not self._orders.empty():
            self._orders.get()()
        self._play()
        frame = self._seen()
        look = self.controls.look()
        live = frame.parameters if frame is not None and look.base == "camera" else None
        for client in list(self._clients.values()):
            if client.pose is None:
                continue
            now = time.monotonic()
            moving = live is not None or now - max(client.moved, self._changed_at) < STILL_SECONDS
            height = client.pace.height(int(self.controls.height.value), moving, self.controls.adapt.value)
            wanted = (look, live, client.pose, height)
            if _same(client.shown, wanted):
                continue
            self.scene.pose(look, live)
            posed = time.monotonic()
            picture = self.scene.draw(look, client.camera(height), live)
            if moving:
                client.pace.took(height, time.monotonic() - posed)
            took = time.monotonic() - now
            if client.handle.client_id not in self._clients:
                continue  # it left meanwhile
            client.handle.scene.set_background_image(picture, format="jpeg", jpeg_quality=70 if moving else 92)
            client.shown = wanted
            latency = None if live is None or frame is None else time.monotonic() - frame.seconds
            if not moving or time.monotonic() - self._told_at > _TELL_SECONDS:
                width = picture.shape[1]
                self._tell(f"{width} x {height} pixels, drawn in {1000 * took:.0f} ms", latency)

    def _seen(self) -> LiveFrame | None:
        """What the camera saw last. That it sees nothing is shown as well."""
        if self._live is None:
            return None
        if self._live.failure is not None:
            raise self._live.failure
        if self._live.waiting != self._told_waiting:
            self._told_waiting = self._live.waiting
            self._tell(self._drawn, None)
        return self._live.latest

    def _patience(self) -> float:
        """Seconds until the next round is due without a change: soon while something plays or waits for full size."""
        if self.controls.play.value:
            return 1 / (self.scene.fps * self.controls.speed.value)
        return 0.02 if self._live is not None else STILL_SECONDS / 2

    def _play(self) -> None:
        """Move on in the recorded motion by the time that passed."""
        now = time.monotonic()
        if not self.controls.play.value:
            self._played_at = None
            return
        if self._played_at is None or int(self._position) != int(self.controls.frame.value):
            self._position = float(self.controls.frame.value)  # started, or scrubbed while playing
        else:
            self._position += (now - self._played_at) * self.scene.fps * self.controls.speed.value
            self._position %= len(self.scene)
        self._played_at = now
        self._changed_at = now
        if self.controls.frame.value != int(self._position):
            self.controls.frame.value = int(self._position)

    # Coroutines run one after the other, in the order in which things happened. Functions would run in threads, and a
    # browser that leaves at once might be forgotten before it is greeted, and so be drawn for ever after.

    async def _greet(self, handle: viser.ClientHandle) -> None:
        client = self._clients[handle.client_id] = _Client(handle)

        @handle.camera.on_update
        async def _(camera: viser.CameraHandle) -> None:
            client.pose = np.array(camera.position), np.array(camera.wxyz), float(camera.fov), float(camera.aspect)
            client.moved = time.monotonic()
            self._wake.set()

    async def _forget(self, handle: viser.ClientHandle) -> None:
        self._clients.pop(handle.client_id, None)

    def _note_change(self) -> None:
        self._changed_at = time.monotonic()
        self._wake.set()

    def _tell(self, drawn: str, latency: float | None) -> None:
        """Show how a picture was drawn, and how the camera does."""
        self._told_at, self._drawn = time.monotonic(), drawn
        status = drawn
        if latency is not None and self._live is not None:
            status += f"\n\n{1000 * latency:.0f} ms from camera to picture"
            status += "" if self._live.calibrated else "; learning your rest: look relaxed into the camera"
        if self._told_waiting:
            status += "\n\nthe camera gives no pictures: plug it in again"
        self.controls.tell(status)

    # --------------------------------------------------------------------------------------------------- pictures

    def _order(self, event: viser.GuiEvent, work: Callable[[_Client], Path]) -> None:
        """Have the drawing loop make a picture for the browser that asked, which is then told its name."""
        client = self._clients.get(event.client_id) if event.client_id is not None else None
        if client is None or client.pose is None or client.waiting >= _MOST_ORDERS:
            return
        client.waiting += 1

        def carry_out() -> None:
            client.waiting -= 1
            try:
                path = work(client)
            except InputError as error:
                client.handle.add_notification("not written", str(error), color="red")
                warn(str(error))
                return
            client.handle.add_notification("written", str(path), auto_close_seconds=5.0)
            remark(f"written: {path}")

        self._orders.put(carry_out)
        self._wake.set()

    def _take_screenshot(self, client: _Client) -> Path:
        path = self._new_file("screenshot", ".png")
        height = int(self.controls.height.value)
        save_image(self.scene.draw(self.controls.look(), client.camera(height), self._newest()), path)
        return path

    def _take_turntable(self, client: _Client) -> Path:
        path = self._new_file("turntable", ".mp4")
        camera = client.camera(int(self.controls.height.value))
        frames = int(self.controls.seconds.value * _TURNTABLE_FPS)
        turn, look, live = math.radians(self.controls.turn.value), self.controls.look(), self._newest()
        write_video(path, self._turn(look, camera, turn, frames, live), _TURNTABLE_FPS)
        return path

    def _turn(self, look: Look, camera: Camera, turn: float, frames: int, live: Any) -> Iterator[np.ndarray]:
        """Pictures from around the scene's middle: all the way round, or from side to side and back."""
        middle = torch.zeros(3)
        for frame in range(frames):
            share = frame / frames
            whole = turn >= 2 * math.pi - 1e-3
            angle = share * turn if whole else turn / 2 * math.sin(2 * math.pi * share)
            yield self.scene.draw(look, camera.around(middle, angle, 0.0), live)

    def _newest(self) -> Any:
        return self._live.latest.parameters if self._live is not None and self._live.latest is not None else None

    def _new_file(self, name: str, suffix: str) -> Path:
        """A path in the folder for pictures that nothing lies at yet; browsers have no say in it."""
        taken = (self._pictures / f"{name}-{number:03d}{suffix}" for number in range(1, 10_000))
        path = next((path for path in taken if not path.exists()), None)
        if path is None:
            raise InputError(f"{self._pictures} is full of {name}s: name another folder with --out")
        return path


def _same(shown: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
    """Whether a picture shows what is wanted already; poses are new objects whenever they change."""
    if not shown:
        return False
    look, live, pose, height = wanted
    return bool(shown[0] == look and shown[1] is live and shown[2] is pose and shown[3] == height)


def _require_viser() -> None:
    try:
        import viser  # noqa: F401
    except ImportError as error:
        raise InputError("the viewer needs viser: pip install 'stavatar[viewer]'") from error
