"""How far mouths and eyes are open, and which frames are picked for it."""

import pytest
import torch

from stavatar.camera import Camera
from stavatar.evaluation.openness import boxes_around, choose_extreme, measure_openness


@pytest.fixture
def posed(head):
    """Parameters of one frame for each keyword: expressions by name."""

    def make(*expressions: dict[str, float]):
        parameters = head.neutral(len(expressions))
        values = parameters.expression.clone()
        for frame, given in enumerate(expressions):
            for name, value in given.items():
                values[frame, head.expression_names.index(name)] = value
        return parameters.replaced(expression=values)

    return make


def test_mouths_open_and_eyes_close(head, posed):
    blink = {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}
    half = dict.fromkeys(blink, 0.5)
    wide = {"eyeWideLeft": 1.0, "eyeWideRight": 1.0}
    found = measure_openness(
        head, torch.zeros(head.shape_count), posed({}, {"jawOpen": 0.3}, {"jawOpen": 1.0}, blink, half, wide)
    )
    neutral, ajar, open_, *_ = found.mouth.tolist()
    assert neutral < ajar < open_
    assert open_ > 0.005  # of the picture
    closed, squint, wide_open = found.eyes[3:].tolist()
    assert closed < 1e-4
    assert closed < squint < found.eyes[0] < wide_open
    torch.testing.assert_close(found.eyes[:3], found.eyes[0].expand(3), rtol=0.02, atol=0)


def test_turning_and_moving_the_head_changes_nothing(head, posed):
    still = posed({"jawOpen": 0.5})
    turned = still.replaced(
        neck=torch.tensor([[0.2, 0.9, 0.0]]),
        rotation=torch.tensor([[0.0, 0.3, 0.1]]),
        translation=torch.tensor([[0.3, -0.2, 0.1]]),
        eyes=torch.full((1, 6), 0.2),
    )
    shape = torch.zeros(head.shape_count)
    for name in ("mouth", "eyes"):
        assert torch.equal(
            getattr(measure_openness(head, shape, still), name), getattr(measure_openness(head, shape, turned), name)
        )


def test_a_jaw_joint_opens_mouths_too(head, posed):
    """Heads such as FLAME have no expression for it; here what jawOpen moves is given to the jaw joint."""
    shape = torch.zeros(head.shape_count)
    parameters = posed({}, {}).replaced(jaw=torch.tensor([[0.0, 0.0, 0.0], [0.4, 0.0, 0.0]]))
    weights = head.weights.clone()
    try:
        falls = head.expression_basis[head.expression_names.index("jawOpen"), :, 1] < -0.005
        head.weights[falls] = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])
        shut, opened = measure_openness(head, shape, parameters).mouth.tolist()
    finally:
        head.weights.copy_(weights)
    assert opened > shut + 0.002


def test_the_most_extreme_frames_are_not_all_neighbours():
    score = torch.tensor([0.0, 1, 2, 9, 10, 8, 2, 1, 0, 0, 0, 5, 6, 5, 0, 0, 0, 0, 3, 0])
    assert choose_extreme(score, 2) == [4, 12]  # 3 and 5 are higher than 12, but within three frames of 4
    assert choose_extreme(score, 3)[2] == 18
    assert choose_extreme(-score, 1) == [0]
    assert choose_extreme(torch.tensor([1.0, 2.0]), 4) == [1, 0]


def test_boxes_hold_the_region_and_have_one_size(head, posed):
    parameters = posed({}, {"jawOpen": 1.0}).replaced(translation=torch.tensor([[0.0, -0.7, 0.0], [0.02, -0.72, 0.0]]))
    camera = Camera.frontal(1.0, 400, 200, 200)
    mesh = head(torch.zeros(head.shape_count), parameters)
    for region, other in (("lips", "eyes"), ("eyes", "lips")):
        boxes = torch.tensor(boxes_around(head, mesh, camera, region))
        inside = {
            name: camera.project(mesh.vertices[:, head.faces[head.faces_in(name)].unique()]) for name in (region, other)
        }
        within = {
            name: ((points > boxes[:, None, :2]) & (points < boxes[:, None, 2:])).all(-1)
            for name, points in inside.items()
        }
        assert within[region].all()
        assert not within[other].any()
        sizes = boxes[:, 2:] - boxes[:, :2]
        torch.testing.assert_close(sizes[0], sizes[1])
        assert (sizes > 15).all()
