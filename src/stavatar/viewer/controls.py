"""The panel in the browser: what can be chosen, and reading it as a Look."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from stavatar.viewer.clusters import cluster_strip
from stavatar.viewer.look import Look, by_part, spoken
from stavatar.viewer.scene import Scene

if TYPE_CHECKING:
    import viser

_SPLATS = {"as they look": "appearance", "as ellipsoids": "ellipsoids", "as points": "points", "not at all": "none"}
_COLOURS = {"their own": "own", "network's offsets": "offsets", "regions": "regions"}
_MESHES = {"none": "none", "shaded": "shaded", "regions": "regions"}
_BASES = {"recorded motion": "recorded", "rest": "neutral"}


class Controls:
    """The widgets. Whatever changes calls `changed`.

    Args:
        server: of viser.
        scene: what is shown.
        live: a camera drives the first avatar.
        changed: called after every change, from any thread.
    """

    def __init__(self, server: viser.ViserServer, scene: Scene, live: bool, changed: Callable[[], None]) -> None:
        self._scene = scene
        self._changed = changed
        self._widgets: dict[str, Any] = {}
        gui = server.gui
        tabs = gui.add_tab_group()
        with tabs.add_tab("Motion"):
            bases = {"camera": "camera", **_BASES} if live else _BASES
            self._bases = bases
            self._base = self._watch(gui.add_dropdown("pose", tuple(bases), hint="What the sliders add to"))
            self.play = self._watch(gui.add_checkbox("play", False))
            self.speed = self._watch(gui.add_slider("speed", 0.1, 2.0, 0.1, 1.0))
            self.frame = self._watch(gui.add_slider("frame", 0, max(1, len(scene) - 1), 1, 0))
            self.calibrate = self._add(
                gui.add_button("learn my rest again", visible=live, hint="Look relaxed into the camera for two seconds")
            )
            self._strip = None
            if scene.clusters is not None:
                strip = cluster_strip(scene.clusters, len(scene), 0)
                self._strip = gui.add_image(strip, label="clusters of frames", format="png")
            self._status = gui.add_markdown("")
        with tabs.add_tab("Face"):
            self.reset = self._add(gui.add_button("all sliders to zero"))
            self._expressions = self._expression_sliders(gui)
            self._jaw: list[Any] = []
            with gui.add_folder("joints, degrees", expand_by_default=False):
                if any(not runtime.head.jaw_by_expression for runtime in scene.runtimes):
                    self._jaw = [self._degrees(gui, f"jaw {way}") for way in ("down", "left")]
                self._gaze = [self._degrees(gui, f"gaze {way}") for way in ("left", "down")]
                self._neck = [self._degrees(gui, f"neck {way}") for way in ("down", "left", "tilted")]
            self.reset.on_click(lambda _: self._to_zero())
        with tabs.add_tab("Layers"):
            self._soft = self._watch(gui.add_checkbox("soft binding", True, hint="Add the offset network's offsets"))
            self._splats = self._watch(gui.add_dropdown("Gaussians", tuple(_SPLATS)))
            self._colours = self._watch(gui.add_dropdown("colours", tuple(_COLOURS)))
            self._mesh = self._watch(gui.add_dropdown("mesh", tuple(_MESHES)))
            self._opacity = self._watch(gui.add_slider("mesh opacity", 0.0, 1.0, 0.05, 0.6))
            self._background = self._watch(gui.add_rgb("background", (255, 255, 255)))
        with tabs.add_tab("Picture"):
            self.height = self._watch(gui.add_slider("height, pixels", 128, 1024, 32, 512, hint="At rest"))
            self.adapt = self._watch(gui.add_checkbox("fewer while moving", True, hint="So that movement is fluid"))
            self.screenshot = self._add(gui.add_button("screenshot"))
            self.turn = self._add(gui.add_slider("turn, degrees", 30, 360, 10, 90))
            self.seconds = self._add(gui.add_slider("turn, seconds", 2, 20, 1, 6))
            self.turntable = self._add(gui.add_button("turntable to mp4"))

    def look(self) -> Look:
        """The state of all widgets."""
        jaw = tuple(slider.value for slider in self._jaw) or (0.0, 0.0)
        return Look(
            base=self._bases[self._base.value],  # type: ignore[arg-type]
            frame=min(int(self.frame.value), len(self._scene) - 1),
            expression=tuple((name, slider.value) for name, slider in self._expressions.items() if slider.value),
            jaw=(jaw[0], jaw[1], 0.0),
            gaze=(self._gaze[0].value, self._gaze[1].value),
            neck=(self._neck[0].value, self._neck[1].value, self._neck[2].value),
            soft=self._soft.value,
            splats=_SPLATS[self._splats.value],  # type: ignore[arg-type]
            colours=_COLOURS[self._colours.value],  # type: ignore[arg-type]
            mesh=_MESHES[self._mesh.value],  # type: ignore[arg-type]
            mesh_opacity=self._opacity.value,
            background=tuple(np.asarray(self._background.value) / 255),
        )

    def tell(self, status: str) -> None:
        """Show a line below the motion, and where in the clusters the frame is."""
        if self._strip is not None and self._scene.clusters is not None:
            frame = int(self.frame.value)
            cluster = self._scene.clusters.get(frame)
            status += "\n\nframe in no cluster" if cluster is None else f"\n\nframe in cluster {cluster}"
            self._strip.image = cluster_strip(self._scene.clusters, len(self._scene), frame)
        if self._status.content != status:
            self._status.content = status

    def _expression_sliders(self, gui: viser.GuiApi) -> dict[str, Any]:
        names = list(dict.fromkeys(name for runtime in self._scene.runtimes for name in runtime.expression_names))
        sliders = {}
        for part, group in by_part(names).items():
            reach = 3.0 if part == "expression" else 1.0
            with gui.add_folder(part, expand_by_default=part in ("mouth", "jaw")):
                for name in group:
                    sliders[name] = self._watch(gui.add_slider(spoken(name), -reach, reach, 0.02, 0.0, hint=name))
        return sliders

    def _degrees(self, gui: viser.GuiApi, label: str) -> Any:
        return self._watch(gui.add_slider(label, -30.0, 30.0, 0.5, 0.0))

    def _to_zero(self) -> None:
        for slider in (*self._expressions.values(), *self._jaw, *self._gaze, *self._neck):
            slider.value = 0.0

    def offer(self, uuid: str, value: object) -> bool:
        """Whether a widget can be set to a value by its own means: browsers may send anything for any widget."""
        return uuid in self._widgets and _offers(self._widgets[uuid], value)

    def _add(self, handle: Any) -> Any:
        self._widgets[handle._impl.uuid] = handle
        return handle

    def _watch(self, handle: Any) -> Any:
        # A coroutine: functions would wait for a thread, as many of them as a browser sends changes.
        async def changed(_: Any) -> None:
            self._changed()

        handle.on_update(changed)
        return self._add(handle)


def _offers(widget: Any, value: object) -> bool:
    """What a widget holds tells what it is: a checkbox or button, a dropdown, a colour, or a slider."""
    if isinstance(widget.value, bool):
        return isinstance(value, bool)
    if isinstance(widget.value, str):
        return value in widget.options
    if isinstance(widget.value, tuple):
        return isinstance(value, list) and len(value) == 3 and all(0 <= part <= 255 for part in value)
    return isinstance(value, float) and widget.min <= value <= widget.max
