"""From a subject and head parameters to pictures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from stavatar.camera import Camera
from stavatar.head import HeadModel, HeadParameters
from stavatar.head.posing import JOINTS
from stavatar.jit import threads
from stavatar.mesh import Fragments, rasterize_mesh
from stavatar.rotations import axis_angle_to_matrix
from stavatar.synth import _shading
from stavatar.synth._anatomy import Ruler, in_region
from stavatar.synth._hair import Hair, grow_hair, paint_strands
from stavatar.synth._noise import fractal_noise
from stavatar.synth._skin import paint_head
from stavatar.synth._texels import linear
from stavatar.synth._wrinkles import TEXTURE_SIZE, draw_wrinkles
from stavatar.synth.subject import Subject

_BATCH = 32  # frames posed at once


def portrait_camera(head: HeadModel, width: int = 512, height: int = 512, distance: float = 1.0) -> Camera:
    """A still camera `distance` metres in front of the face; from 1 m it sees head and shoulders.

    The focal length is 2.5 times the image's shorter side, as tracking assumes when a video tells nothing better.
    """
    ruler = Ruler.of(head)
    target = torch.from_numpy(ruler.origin + ruler.unit * np.array([0.0, -0.45, 0.0])).float()
    zero = torch.zeros(1)
    return Camera.orbit(target, distance, zero, zero, 2.5 * min(width, height), width, height)


class Renderer:
    """Draws one subject. Painting textures and growing hair happens once, here; it takes a second or two."""

    def __init__(self, head: HeadModel, subject: Subject) -> None:
        self.head = head
        self.subject = subject
        neutral = head(subject.shape[None], head.neutral())
        self._neck = neutral.joints[0, JOINTS.index("neck")]
        rest = neutral.vertices[0].double().numpy()
        bald = subject.hair_volume <= 0
        hair = Hair(np.zeros((0, 3)), np.zeros((0, 3), np.int64), np.zeros((0, 3, 2), np.float32)) if bald else None
        hair = hair or grow_hair(head, subject, rest)
        self._hair = torch.from_numpy(hair.vertices).float()
        self._skin_texture = paint_head(head, subject)
        self._hair_texture = paint_strands(subject)
        self._wrinkles = draw_wrinkles(head, subject) if subject.wrinkles > 0 else None
        self._folds = np.zeros((1, 1, 4) if self._wrinkles is None else (TEXTURE_SIZE, TEXTURE_SIZE, 4), np.float32)

        # One mesh for everything: the head's faces, the hair's, and the backs of what surrounds the mouth, whose parts
        # do not close: one would look out of the head between them.
        eyes, mouth = in_region(head, "eyeballs"), in_region(head, "mouth_interior", "teeth")
        around = torch.from_numpy(mouth | in_region(head, "face", "lips", "neck"))
        self._outside = torch.cat([head.faces, torch.from_numpy(hair.faces) + len(head.template)])
        self._faces = torch.cat([self._outside, head.faces[around].flip(1)])
        self._uv = np.concatenate([head.uv[head.uv_faces].numpy(), hair.uv])
        self._material = np.concatenate(
            [
                np.select([eyes, mouth], [_shading.EYE, _shading.MOUTH], _shading.SKIN),
                np.full(len(hair.faces), _shading.HAIR),
                np.full(int(around.sum()), _shading.INSIDE),
            ]
        ).astype(np.uint8)
        self._eye_directions, self._iris_sine = _eye_frame(head, rest, neutral.joints[0].double().numpy(), eyes)

    def frames(
        self, parameters: HeadParameters, camera: Camera, *, samples: int = 1, noise: float = 0.0, seed: int = 0
    ) -> Iterator[np.ndarray]:
        """Pictures [H, W, 3] uint8 of the frames of `parameters`, seen by one camera in front of a wall.

        Args:
            parameters: the instants to draw, `samples` of them for each picture.
            camera: one.
            samples: a picture is the mean of the light of so many instants, as a shutter that is open lets it in.
            noise: standard deviation of the sensor's noise, for images in [0, 1].
            seed: of that noise.
        """
        background = _backdrop(camera.width, camera.height, self.subject.seed)
        for picture, _ in self._exposed(parameters, camera, background, samples, noise, seed):
            yield picture

    def cutouts(
        self, parameters: HeadParameters, camera: Camera, *, samples: int = 1, noise: float = 0.0, seed: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same pictures over white [H, W, 3] uint8, each with the share of its pixels that is the person's.

        These mattes [H, W] uint8 are true, hair included; there are as many levels between 0 and 255 as a pixel has
        samples. What shows at the person's border is the person's colour alone, laid over white by the matte.
        """
        for picture, coverage in self._exposed(parameters, camera, None, samples, noise, seed):
            yield picture, np.round(coverage * 255).astype(np.uint8)

    def _exposed(
        self,
        parameters: HeadParameters,
        camera: Camera,
        background: np.ndarray | None,
        samples: int,
        noise: float,
        seed: int,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pictures [H, W, 3] uint8 and coverage [H, W], each the mean of `samples` instants.

        Light adds up before the sensor, whose noise comes on top. Over white, colours are mixed as mattes mix them.
        """
        if samples == 1:
            yield from self._draw(parameters, camera, background, noise, seed)
            return
        rng = np.random.default_rng([seed, 4])
        power = 1.0 if background is None else 2.2
        light = ((np.arange(256) / 255) ** power).astype(np.float32)
        instants = self._draw(parameters, camera, background, 0.0, seed)
        for _ in range(len(parameters) // samples):
            exposure = [next(instants) for _ in range(samples)]
            mean = np.mean([light[picture] for picture, _ in exposure], 0) ** (1 / power)
            grain = rng.standard_normal(mean.shape, np.float32) * np.float32(noise)
            picture = np.round((mean + grain).clip(0, 1) * 255).astype(np.uint8)
            yield picture, np.mean([coverage for _, coverage in exposure], 0)

    def _draw(
        self, parameters: HeadParameters, camera: Camera, background: np.ndarray | None, noise: float, seed: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pictures [H, W, 3] uint8 over a background, or white where None, and coverage [H, W] float32."""
        rng = np.random.default_rng([seed, 4])
        fine = camera.resized(camera.width * _shading.SUPERSAMPLE, camera.height * _shading.SUPERSAMPLE)
        still = np.zeros((camera.height, camera.width, 3), np.float32)
        fragments: Fragments | None = None
        for first in range(0, len(parameters), _BATCH):
            batch = parameters[first : first + _BATCH]
            turns = _head_turns(batch).numpy()
            for vertices, turn, expression in zip(self.pose(batch), turns, batch.expression.numpy(), strict=True):
                grain = rng.standard_normal(still.shape, np.float32) * np.float32(noise) if noise > 0 else still
                fragments = rasterize_mesh(vertices, self._faces, fine, out=fragments)
                if self._wrinkles is not None:
                    self._wrinkles.texture(self._wrinkles.weights(expression), self._folds)
                yield self._shade(vertices, turn, camera, fragments, background, grain)

    def pose(self, parameters: HeadParameters) -> torch.Tensor:
        """World positions [T, V + P, 3] of the head's and the hair's vertices."""
        posed = self.head(self.subject.shape[None], parameters)
        turn = _head_turns(parameters)
        hair = (self._hair - self._neck) @ turn.transpose(1, 2) + posed.joints[:, JOINTS.index("neck"), None]
        return torch.cat([posed.vertices, hair], 1)

    def _shade(
        self,
        vertices: torch.Tensor,
        turn: np.ndarray,
        camera: Camera,
        fragments: Fragments,
        background: np.ndarray | None,
        grain: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        out = np.empty((camera.height, camera.width, 3), np.uint8)
        coverage = np.empty((camera.height, camera.width), np.float32)
        positions, faces = vertices.numpy(), self._faces.numpy()
        with threads():
            _shading.shade(
                fragments.face.numpy(),
                fragments.barycentric.numpy(),
                faces,
                self._material,
                positions,
                _shading.vertex_normals(positions, self._outside.numpy()),
                self._uv,
                self._eye_directions,
                np.float32(self._iris_sine),
                linear(self.subject.iris).astype(np.float32),
                self._skin_texture,
                self._hair_texture,
                self._folds,
                turn,
                camera.position[0].numpy(),
                _shading.LIGHTS.astype(np.float32),
                _shading.LIGHT_COLOURS.astype(np.float32),
                _shading.SKY.astype(np.float32),
                _shading.GROUND.astype(np.float32),
                _shading.GAMMA,
                np.empty((0, 0, 3), np.float32) if background is None else background,
                grain,
                background is None,
                out,
                coverage,
            )
        return out, coverage


def _head_turns(parameters: HeadParameters) -> torch.Tensor:
    """Rotation [T, 3, 3] of the head against the world."""
    return axis_angle_to_matrix(parameters.rotation) @ axis_angle_to_matrix(parameters.neck)


def _eye_frame(head: HeadModel, rest: np.ndarray, joints: np.ndarray, eyes: np.ndarray) -> tuple[np.ndarray, float]:
    """Directions [F', 3, 3] of the eyeballs' face corners from their centres, and the sine of the iris' half angle.

    A face is an eyeball's whose joint is nearer. F' is the number of the head's faces; other rows are not read.
    """
    faces = head.faces.numpy()
    directions = np.zeros((len(faces), 3, 3), np.float32)
    if not eyes.any():
        return directions, 1.0
    corners = rest[faces[eyes]]
    centres = joints[[JOINTS.index("left_eye"), JOINTS.index("right_eye")]]
    nearer = np.linalg.norm(corners.mean(1)[:, None] - centres, axis=-1).argmin(1)
    offset = corners - centres[nearer][:, None]
    radius = np.linalg.norm(offset, axis=-1, keepdims=True)
    directions[eyes] = offset / radius
    return directions, min(_shading.IRIS_RADIUS / float(np.median(radius)), 0.9)


def _backdrop(width: int, height: int, seed: int) -> np.ndarray:
    """A wall [H, W, 3], out of focus: a soft gradient with faint clouds, linear light."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    clouds = fractal_noise(np.stack([x, y, np.zeros_like(x)], -1), 0.35, 2, seed * 97 + 91)
    tone = 0.62 - 0.22 * y + 0.07 * clouds - 0.15 * ((x - 0.5) ** 2)
    return (linear((0.74, 0.78, 0.80)) * tone[..., None] / 0.6).astype(np.float32)
