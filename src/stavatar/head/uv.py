"""The UV atlas: which face, and which point of it, every texel of a square map shows.

The atlas of a head never changes, so this is worked out once; every map made from vertex values is then a gather of
three vertices per texel, and no mesh rasteriser is needed at run time.

Convention: texel (row r, column c) of an R x R map has its centre at u = (c + 0.5) / R, v = (r + 0.5) / R, so that rows
grow with v and ``grid_sample(map, 2 * uv - 1, align_corners=False)`` reads a map at texture coordinates as they are.
(Shown as an image, such a map stands on its head.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stavatar.head.model import HeadModel

_CANDIDATES = 1 << 22  # texel-face pairs tested at a time, to bound memory
_GUTTER = 2  # texels around islands that repeat the nearest texel, so that bilinear reads mix in no emptiness
_EPSILON = 1e-7


class UVAtlas(nn.Module):
    """Faces and barycentric weights of the texels of an R x R map.

    Attributes:
        size: R.
        face: [R, R] index of the face that covers the texel's centre; -1 where none does.
        barycentric: [R, R, 3] weights of the face's corners there; they sum to 1. Zero where no face is.
        valid: [R, R] bool, texels whose centre a face covers.
    """

    face: Tensor
    barycentric: Tensor
    valid: Tensor
    _vertices: Tensor
    _weights: Tensor

    def __init__(self, head: HeadModel, size: int) -> None:
        super().__init__()
        self.size = size
        self.face_count = len(head.uv_faces)
        face, barycentric = _rasterise(head.uv[head.uv_faces].cpu().double(), size)
        self.register_buffer("face", face, persistent=False)
        self.register_buffer("barycentric", barycentric, persistent=False)
        self.register_buffer("valid", face >= 0, persistent=False)
        # What maps are gathered from: the texel's own face, or in the gutter that of the nearest texel.
        source = _nearest_valid(face >= 0, _GUTTER)
        filled_face = face.flatten()[source]
        filled_weight = barycentric.flatten(0, 1)[source] * (filled_face >= 0)[..., None]
        self.register_buffer("_vertices", head.faces.cpu()[filled_face.clamp_min(0)], persistent=False)
        self.register_buffer("_weights", filled_weight, persistent=False)

    def gather(self, values: Tensor) -> Tensor:
        """Maps of vertex values: [B, V, C] -> [B, C, R, R], interpolated within faces, zero where no face is near.

        Texels up to two away from an island repeat its border.
        """
        shape = (self.size, self.size, 3)
        corners = values.index_select(1, self._vertices.flatten()).unflatten(1, shape)  # [B, R, R, 3, C]
        return torch.einsum("brsic,rsi->bcrs", corners, self._weights)


def _rasterise(corners: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cover texel centres with triangles [F, 3, 2] in [0, 1]: face [R, R] and barycentric weights [R, R, 3].

    All pairs of a face and a texel in its bounding box are listed, in bounded portions, and tested at once. Of several
    faces over one centre (a shared edge) the one with the lowest index is taken.
    """
    scaled = corners * size - 0.5  # texel centres at integers
    low = scaled.amin(1).ceil().long().clamp(0, size)
    high = scaled.amax(1).floor().long().clamp(-1, size - 1)
    extent = (high - low + 1).clamp_min(0)
    counts = extent.prod(1)
    face_map = torch.full((size * size,), len(corners))
    weight_map = torch.zeros(size * size, 3, dtype=scaled.dtype)
    portion = counts.cumsum(0).sub(counts).div(_CANDIDATES, rounding_mode="floor")
    for number in portion.unique().tolist():
        members = (portion == number).nonzero()[:, 0]
        face = members.repeat_interleave(counts[members])
        if len(face) == 0:
            continue
        begin = counts[members].cumsum(0) - counts[members]
        within = torch.arange(len(face)) - begin.repeat_interleave(counts[members])
        texel = torch.stack([low[face, 0] + within % extent[face, 0], low[face, 1] + within // extent[face, 0]], 1)
        weights = barycentric_weights(texel.to(scaled.dtype), scaled[face])
        hit = (weights >= -_EPSILON).all(1)
        face, texel, weights = face[hit], texel[hit], weights[hit]
        place = texel[:, 1] * size + texel[:, 0]
        face_map.scatter_reduce_(0, place, face, "amin")
        wins = face_map[place] == face
        weight_map[place[wins]] = weights[wins]
    face_map[face_map == len(corners)] = -1
    weight_map = weight_map.clamp_min(0)
    weight_map = weight_map / weight_map.sum(1, keepdim=True).clamp_min(_EPSILON)
    return face_map.view(size, size), weight_map.view(size, size, 3).float()


def barycentric_weights(points: Tensor, triangles: Tensor) -> Tensor:
    """Weights [P, 3] of points [P, 2] in triangles [P, 3, 2]; -1 everywhere for triangles without area."""
    a, b, c = triangles.unbind(1)

    def area(p: Tensor, q: Tensor, r: Tensor) -> Tensor:
        return (q[:, 0] - p[:, 0]) * (r[:, 1] - p[:, 1]) - (q[:, 1] - p[:, 1]) * (r[:, 0] - p[:, 0])

    whole = area(a, b, c)
    flat = whole.abs() < 1e-12
    weights = torch.stack([area(points, b, c), area(a, points, c), area(a, b, points)], 1)
    return torch.where(flat[:, None], -1.0, weights / torch.where(flat, 1.0, whole)[:, None])


def _nearest_valid(valid: Tensor, reach: int) -> Tensor:
    """For each texel the flat index of the nearest valid one within `reach` texels, or its own."""
    size = valid.shape[0]
    own = torch.arange(size * size).view(size, size)
    source, filled = own.clone(), valid.clone()
    steps = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1) if dy or dx]
    for dy, dx in sorted(steps, key=lambda step: step[0] ** 2 + step[1] ** 2):
        rows, columns = torch.arange(size)[:, None] + dy, torch.arange(size)[None] + dx
        inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
        rows, columns = rows.clamp(0, size - 1).expand(size, size), columns.clamp(0, size - 1).expand(size, size)
        take = ~filled & inside & valid[rows, columns]
        source[take] = own[rows, columns][take]
        filled |= take
    return source
