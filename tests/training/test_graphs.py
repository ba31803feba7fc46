"""CUDA graphs replay what the ordinary way computes."""

import dataclasses
from importlib.util import find_spec

import pytest
import torch

from stavatar.training.trainer import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.skipif(find_spec("gsplat") is None, reason="needs gsplat: pip install stavatar[cuda]"),
    pytest.mark.timeout(900),  # the first call compiles gsplat
]


@pytest.mark.parametrize("batch", [1, 3])  # with three frames a step, the last batch of an epoch is smaller
def test_training_with_graphs_equals_training_without(small_sequence, head, small_config, batch):
    results = []
    for graphs in (False, True):
        config = dataclasses.replace(
            small_config,
            training=dataclasses.replace(
                small_config.training, batch=batch, graphs=graphs, network_start=0.0, precision="fp32"
            ),
            pose=dataclasses.replace(small_config.pose, passes=()),
        )
        trainer = Trainer(small_sequence, head, config, device="cuda")
        for step in range(6):
            trainer.train_step(trainer.plan.batches[step], trainer.plan.groups[step])
        assert trainer._recorded_network == graphs
        results.append({**trainer.avatar.state_dict(), **trainer.poses.state_dict()})
    # Atomic additions have no fixed order on a GPU, and Adam turns a difference in the last digit into a step's size
    # where a gradient is nearly zero; so single values may differ, but not many.
    for name, value in results[0].items():
        if value.is_floating_point() and value.numel():
            apart = (value - results[1][name]).abs() > 1e-3 * (1e-2 + value.abs())
            assert apart.float().mean() < 0.02, name


def test_bfloat16_gives_nearly_the_same_gradients(small_sequence, head, small_config):
    """The gradient of the network's weights points the same way, whichever precision its convolutions have."""
    gradients = []
    for precision in ("fp32", "bf16"):
        config = dataclasses.replace(
            small_config,
            training=dataclasses.replace(small_config.training, network_start=0.0, precision=precision),
            pose=dataclasses.replace(small_config.pose, passes=()),
        )
        trainer = Trainer(small_sequence, head, config, device="cuda")
        trainer.train_step(trainer.plan.batches[0], trainer.plan.groups[0])
        gradients.append(torch.cat([value.grad.flatten() for value in trainer.avatar.network.parameters()]))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.995
