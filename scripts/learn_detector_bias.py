"""Find out what MediaPipe's landmarks are off by, on people whose landmarks are known (see `tracking.detector_bias`).

    python scripts/learn_detector_bias.py [OUT.npz]

Rendered subjects, none of them among those that tracking is measured on, look straight ahead and are seen from several
sides. Each landmark is put where the rays through its pixels pass each other most closely; that it lies besides its
point on the subject's head is the detector's doing. Writes ``src/stavatar/tracking/detector_bias.npz``: ``mean``
[478, 3] and ``modes`` [478, 3, 30], float16 metres. Takes eight minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from stavatar import assets
from stavatar.camera import Camera
from stavatar.embedding import Detector, mediapipe_detector, render, view_camera
from stavatar.files import atomic_path
from stavatar.head import HeadModel, load_embedded_head, load_embedded_landmarks
from stavatar.progress import stage
from stavatar.synth import Renderer, Subject
from stavatar.tracking.detector_bias import FILE, DetectorBias

DATA = Path(__file__).resolve().parents[1] / "src" / "stavatar" / "tracking" / FILE
SUBJECTS = range(100, 230)
MODES = 30
"""More do not make tracked faces better."""
SIZE = 448
VIEWS = (
    *((0.0, 0.0), (0.35, 0.0), (-0.35, 0.0), (0.18, 0.12), (-0.18, -0.1)),
    *((0.0, 0.2), (0.0, -0.15), (0.18, 0.0), (-0.18, 0.0)),
)
"""(yaw, pitch) of the camera in radians: as far as people turn who talk to one."""


def main(out: Path = DATA) -> None:
    head, embedding = load_embedded_head(), load_embedded_landmarks()
    detect = mediapipe_detector(assets.path("face_landmarker"))
    cameras = [view_camera(head, yaw, pitch, SIZE) for yaw, pitch in VIEWS]
    offsets = []
    with stage("showing subjects to the detector", len(SUBJECTS)) as report:
        for number in SUBJECTS:
            subject = Subject.random(head, number)
            pixels = look_at(head, subject, cameras, detect)
            if pixels is not None:
                points = embedding.points(head, head(subject.shape, head.neutral()).vertices)[0]
                offsets.append(triangulate(pixels, cameras) - points)
            report(1)
    bias = DetectorBias.learn(torch.stack(offsets), MODES)
    with atomic_path(out) as temporary:
        np.savez_compressed(
            temporary, mean=bias.mean.numpy().astype(np.float16), modes=bias.modes.numpy().astype(np.float16)
        )
    print(f"wrote {out}, from {len(offsets)} subjects")


def look_at(head: HeadModel, subject: Subject, cameras: list[Camera], detect: Detector) -> Tensor | None:
    """Landmarks [V, 478, 2] in the pictures of V cameras; None where no face is found in one of them."""
    renderer = Renderer(head, subject)
    seen = [detect(render(renderer, head.neutral(), camera)) for camera in cameras]
    if any(pixels is None for pixels in seen):
        return None
    return torch.from_numpy(np.stack(seen)).float()


def triangulate(pixels: Tensor, cameras: list[Camera]) -> Tensor:
    """Points [L, 3] nearest to the rays of V cameras through pixels [V, L, 2], in the mean of squared distances."""
    matrix, right = torch.zeros(pixels.shape[1], 3, 3), torch.zeros(pixels.shape[1], 3)
    for seen, camera in zip(pixels, cameras, strict=True):
        on_plane = torch.cat([(seen - camera.center[0]) / camera.focal[0], torch.ones(len(seen), 1)], 1)
        ray = normalize(on_plane @ camera.world_to_camera[0, :3, :3], dim=1)
        across = torch.eye(3) - ray[:, :, None] * ray[:, None]  # takes away what lies along the ray
        matrix += across
        right += across @ camera.position[0]
    return torch.linalg.solve(matrix, right)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
