"""The head's part of the matte."""

import torch

from stavatar.camera import Camera
from stavatar.evaluation.head_mask import head_mask


def test_hair_counts_as_head_and_clothes_do_not(head):
    vertices = head.template - head.joint_template[1]
    camera = Camera.frontal(1.0, 200.0, 128, 128)
    matte = torch.zeros(128, 128)
    matte[2:, 20:108] = 1  # a person much larger than the mesh: tall hair, wide clothes
    mask = head_mask(head, vertices, camera, matte)

    def pixel(point):
        column, row = camera.project(point[None, None])[0, 0].long().tolist()
        return row, column

    nose = vertices[head.faces[head.faces_in("nose")]].mean((0, 1))
    chest = vertices[head.faces[head.faces_in("torso")]].mean((0, 1))
    assert mask[pixel(nose)]
    assert not mask[pixel(chest)]
    top = pixel(vertices[vertices[:, 1].argmax()])
    assert mask[4, top[1]], "above the mesh's crown there is hair"
    assert not mask[126, 22], "beside the chest there are clothes"
    assert not mask[:, :20].any(), "outside the matte there is nobody"


def test_a_head_out_of_sight_has_no_pixels(head):
    camera = Camera.frontal(1.0, 200.0, 32, 32)
    away = head.template + torch.tensor([50.0, 0.0, 0.0])
    assert not head_mask(head, away, camera, torch.ones(32, 32)).any()
