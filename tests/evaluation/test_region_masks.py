"""Where the parts of the head are in a picture."""

import dataclasses

import numpy as np
import pytest
import torch

from stavatar.camera import Camera
from stavatar.evaluation.region_masks import MASK_REGIONS, region_masks

SIZE = 128


@pytest.fixture(scope="module")
def camera():
    return Camera.frontal(1.0, 200.0, SIZE, SIZE)


@pytest.fixture(scope="module")
def centred(head):
    """Parameters of the neutral head with its neck joint at the origin."""
    return head.neutral().replaced(translation=-head.joint_template[[1]])


def opened(head, parameters, amount):
    expression = parameters.expression.clone()
    expression[0, head.expression_names.index("jawOpen")] = amount
    return parameters.replaced(expression=expression)


def masks_of(head, camera, parameters, matte=None):
    vertices = head(torch.zeros(head.shape_count), parameters).vertices[0]
    return region_masks(head, vertices, camera, torch.ones(SIZE, SIZE) if matte is None else matte)


def pixel(camera, point):
    column, row = camera.project(point[None, None])[0, 0].long().tolist()
    return row, column


def test_hair_counts_as_head_and_clothes_do_not(head, camera, centred):
    vertices = head(torch.zeros(head.shape_count), centred).vertices[0]
    matte = torch.zeros(SIZE, SIZE)
    matte[2:, 20:108] = 1  # a person much larger than the mesh: tall hair, wide clothes
    masks = region_masks(head, vertices, camera, matte)
    nose = vertices[head.faces[head.faces_in("nose")]].mean((0, 1))
    chest = vertices[head.faces[head.faces_in("torso")]].mean((0, 1))
    assert masks["head"][pixel(camera, nose)] and not masks["hair"][pixel(camera, nose)]
    assert not masks["head"][pixel(camera, chest)]
    top = pixel(camera, vertices[vertices[:, 1].argmax()])
    assert masks["head"][4, top[1]] and masks["hair"][4, top[1]], "above the mesh's crown there is hair"
    assert not masks["head"][126, 22] and not masks["hair"][126, 22], "beside the chest there are clothes"
    assert not masks["head"][:, :20].any(), "outside the matte there is nobody"
    assert not (masks["hair"] & ~masks["head"]).any()


def test_the_inside_of_the_mouth_is_measured_where_it_shows(head, camera, centred):
    shut, wide = (masks_of(head, camera, opened(head, centred, amount)) for amount in (0.0, 1.0))
    assert not shut["mouth_interior"].any(), "lips are in front of it"
    assert wide["mouth_interior"].sum() > 30
    assert not (wide["mouth_interior"] & ~wide["mouth"]).any()
    assert wide["mouth"].sum() > shut["mouth"].sum() > 30
    turned = centred.replaced(rotation=torch.tensor([[0.0, np.pi, 0.0]]))
    behind = masks_of(head, camera, opened(head, turned, 1.0))
    assert not behind["mouth"].any() and not behind["eyes"].any(), "seen from behind there is hair alone"
    assert behind["hair"].sum() > 500


def test_a_head_without_an_inside_of_the_mouth_has_a_hole_there_that_counts(head, camera, centred):
    """As FLAME's as it comes: through open lips one sees out at the back, or what lies behind."""
    kept = ~head.faces_in("mouth_interior", "teeth")
    hollow = dataclasses.make_dataclass("Hollow", ["faces", "faces_in"])(
        head.faces[kept], lambda *labels: head.faces_in(*labels)[kept]
    )
    vertices = head(torch.zeros(head.shape_count), opened(head, centred, 1.0)).vertices[0]
    matte = torch.ones(SIZE, SIZE)
    with_inside, without = (region_masks(each, vertices, camera, matte) for each in (head, hollow))
    assert not without["mouth_interior"].any()
    assert torch.equal(without["mouth"], with_inside["mouth"])


def test_both_eyes_are_measured_with_their_eyeballs(head, camera, centred):
    masks = masks_of(head, camera, centred)
    vertices = head(torch.zeros(head.shape_count), centred).vertices[0]
    centre = vertices[head.faces[head.faces_in("eyeballs")]].mean((0, 1))
    column = pixel(camera, centre)[1]
    left, right = masks["eyes"][:, :column].sum(), masks["eyes"][:, column + 1 :].sum()
    assert left > 20 and right > 20 and abs(left - right) < 0.3 * left
    for x in (-1, 1):
        eyeball = vertices[head.faces[head.faces_in("eyeballs")]].flatten(0, 1)
        eyeball = eyeball[(eyeball[:, 0] - centre[0]) * x > 0].mean(0)
        assert masks["eyes"][pixel(camera, eyeball)]
    parts = [masks[name] for name in ("mouth", "eyes", "hair")]
    assert (torch.stack(parts).sum(0) <= 1).all(), "these do not overlap"
    for part in parts:
        assert not (part & ~masks["head"]).any()


def test_only_the_person_counts(head, camera, centred):
    empty = masks_of(head, camera, opened(head, centred, 1.0), matte=torch.zeros(SIZE, SIZE))
    assert set(empty) == set(MASK_REGIONS)
    assert not any(mask.any() for mask in empty.values())


def test_a_head_out_of_sight_has_no_pixels(head, camera):
    away = head.template + torch.tensor([50.0, 0.0, 0.0])
    masks = region_masks(head, away, camera, torch.ones(SIZE, SIZE))
    assert not any(mask.any() for mask in masks.values())
