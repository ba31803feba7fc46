"""How far mouth and eyes are open in each frame, read off the posed mesh, and which frames are worth looking at.

Heads name their expressions differently and some open the mouth with a joint, so nothing here asks for a parameter:
the head is posed with its expression and jaw alone, looked at from the front, and the pixels are counted in which the
inside of the mouth or the eyeballs can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.evaluation.drawing.crops import Box
from stavatar.head import HeadModel, HeadParameters, PosedHead
from stavatar.mesh import rasterize_mesh

INSIDE_MOUTH = ("mouth_interior", "teeth")
_FACE = ("face", "forehead", "nose", "eyes", "lips")
_PIXELS = 256
_FIELD = 1.25  # edge of what is looked at, in heights of the face
_DISTANCE = 1.0  # metres
_MARGIN = {"lips": (0.45, 0.45), "eyes": (0.1, 0.45)}  # beside and above a region, in its widths and heights
_SPREAD = 3  # chosen frames keep a distance of the number of frames over so many times their count


@dataclass(frozen=True)
class Openness:
    """Of T frames: [T] share of the picture in which the inside of the mouth, and the eyeballs, can be seen."""

    mouth: Tensor
    eyes: Tensor


@torch.no_grad()
def measure_openness(head: HeadModel, shape: Tensor, parameters: HeadParameters) -> Openness:
    """Openness of T frames, whatever way the head is turned in them.

    Args:
        head: any head model with the regions of `REGIONS`.
        shape: [S] identity.
        parameters: T frames.
    """
    still = HeadParameters.zeros(len(parameters), head.expression_count).to(head.template.device)
    posed = head(shape, still.replaced(expression=parameters.expression, jaw=parameters.jaw)).vertices
    face = head(shape, head.neutral()).vertices[0, head.faces[head.faces_in(*_FACE)].unique()]
    low, high = face.amin(0), face.amax(0)
    focal = _PIXELS * _DISTANCE / (_FIELD * float((high - low)[1]))
    camera = Camera.frontal(_DISTANCE, focal, _PIXELS, _PIXELS)
    mouth, eyes = head.faces_in(*INSIDE_MOUTH).cpu(), head.faces_in("eyeballs").cpu()
    counts = []
    for vertices in posed - (low + high) / 2:
        face_of_pixel = rasterize_mesh(vertices, head.faces, camera).face.long()
        seen = face_of_pixel[face_of_pixel >= 0]
        counts.append(torch.stack([mouth[seen].sum(), eyes[seen].sum()]))
    shares = torch.stack(counts).float() / _PIXELS**2
    return Openness(shares[:, 0], shares[:, 1])


def choose_extreme(score: Tensor, count: int) -> list[int]:
    """Places of up to `count` of the largest of `score` [T], not too close to each other in time, the largest first."""
    apart = max(1, len(score) // (_SPREAD * count))
    chosen: list[int] = []
    for place in score.argsort(descending=True, stable=True).tolist():
        if len(chosen) < count and all(abs(place - other) >= apart for other in chosen):
            chosen.append(place)
    return chosen


def boxes_around(head: HeadModel, mesh: PosedHead, camera: Camera, region: str) -> list[Box]:
    """Where `region` (``lips`` or ``eyes``) is in each of B pictures, with a margin; all boxes have one size."""
    points = camera.project(mesh.vertices[:, head.faces[head.faces_in(region)].unique()])
    low, high = points.amin(1), points.amax(1)
    half = (high - low).amax(0) * (0.5 + low.new_tensor(_MARGIN[region]))
    center = (low + high) / 2
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in torch.cat([center - half, center + half], 1).tolist()]
