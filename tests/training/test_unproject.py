"""Pictures carried back onto the UV square: the colours of the surface come back, and only from where it is seen."""

import dataclasses

import torch

from stavatar.head import UVAtlas
from stavatar.training.unproject import unproject


def painted(sequence, head):
    """The sequence with every face of the mesh in a colour that tells where it lies on the template."""
    from stavatar.mesh import interpolate, rasterize_mesh

    colors = 0.5 + 2 * (head.template - head.template.mean(0))
    images, masks = [], []
    for frame in range(len(sequence)):
        vertices = head(sequence.shape, sequence.parameters[[frame]]).vertices[0]
        seen = rasterize_mesh(vertices, head.faces, sequence.camera)
        picture = interpolate(seen, colors[head.faces]) + (seen.face < 0)[..., None].float()
        images.append(picture)
        masks.append((seen.face >= 0).to(torch.uint8) * 255)
    stack = torch.stack(images).clamp(0, 1)
    images8 = (stack * 255).round().to(torch.uint8)
    return dataclasses.replace(sequence, images=images8, masks=torch.stack(masks)), colors


def test_the_paint_comes_back_where_the_camera_sees_it(small_sequence, head):
    sequence, colors = painted(small_sequence, head)
    atlas = UVAtlas.build(head, 64)
    texture = unproject(sequence, head, atlas, sequence.train)
    assert texture.shape == (3, 64, 64)
    truth = atlas.gather(colors[None])[0]
    face = atlas.gather_faces(head.faces_in("nose", "forehead", "face"))
    front = face & (atlas.gather(head.template[None])[0, 2] > head.template[:, 2].amax() - 0.06)
    assert front.sum() > 150
    # A pixel of this small picture is 3 mm wide, which is six thousandths of colour.
    assert (texture - truth)[:, front].abs().median() < 0.02


def test_hidden_texels_repeat_their_neighbours_and_nothing_of_the_background(small_sequence, head):
    """The back of the head was never seen; white, which lies behind the head in every picture, must not get there."""
    sequence, _ = painted(small_sequence, head)
    atlas = UVAtlas.build(head, 64)
    texture = unproject(sequence, head, atlas, torch.tensor([0]))
    assert torch.isfinite(texture).all()
    back = atlas.gather_faces(head.faces_in("scalp")) & (atlas.gather(head.template[None])[0, 2] < -0.05)
    assert back.sum() > 20
    assert texture[:, back].mean(0).max() < 0.9


def test_frames_are_weighed_by_how_squarely_they_show_a_texel(small_sequence, head):
    """Of two frames in different colours each texel takes more of the one that faces it."""
    red, blue = torch.tensor([255, 0, 0], dtype=torch.uint8), torch.tensor([0, 0, 255], dtype=torch.uint8)
    neck = torch.tensor([[0.0, 0.6, 0.0], [0.0, -0.6, 0.0]])  # the first frame shows the head's right side
    images = torch.stack([red.expand(64, 64, 3), blue.expand(64, 64, 3)])
    parameters = small_sequence.parameters[[0, 1]].replaced(neck=neck)
    sequence = dataclasses.replace(
        small_sequence,
        parameters=parameters,
        images=images,
        masks=torch.full((2, 64, 64), 255, dtype=torch.uint8),
    )
    atlas = UVAtlas.build(head, 64)
    texture = unproject(sequence, head, atlas, torch.tensor([0, 1]))
    cheek = atlas.gather_faces(head.faces_in("face"))
    x = atlas.gather(head.template[None])[0, 0]
    right, left = cheek & (x < -0.05), cheek & (x > 0.05)
    assert right.sum() > 10 and left.sum() > 10
    assert texture[0, right].mean() > texture[2, right].mean() + 0.3
    assert texture[2, left].mean() > texture[0, left].mean() + 0.3


def test_nothing_in_sight_is_grey(small_sequence, head):
    away = small_sequence.parameters.replaced(translation=torch.tensor([[5.0, 0.0, 0.0]]).expand(10, 3))
    sequence = dataclasses.replace(small_sequence, parameters=away)
    texture = unproject(sequence, head, UVAtlas.build(head, 32), torch.tensor([0]))
    assert (texture == 0.5).all()
