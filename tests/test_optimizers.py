"""Optimizers that PyTorch does not have, compared with the formulas of their articles."""

import pytest
import torch

from cifar_exp.optimizers import Lion
from cifar_exp.training.optimizers import ParamOptimizer


def test_lion_equals_its_article_over_several_steps_and_after_resuming() -> None:
    torch.manual_seed(0)
    config = Lion(lr=0.01, weight_decay=0.1, betas=(0.9, 0.99))
    parameter = torch.nn.Parameter(torch.randn(3, 4))
    expected, momentum = parameter.detach().clone(), torch.zeros(3, 4)
    update = ParamOptimizer(config, [parameter])
    for step in range(4):
        gradient, lr = torch.randn(3, 4), 0.01 / (step + 1)
        # Chen et al., 2023, algorithm 2
        direction = torch.sign(0.9 * momentum + 0.1 * gradient)
        expected = expected - lr * (direction + 0.1 * expected)
        momentum = 0.99 * momentum + 0.01 * gradient
        parameter.grad = gradient
        update.set_lr(lr)
        update.step()
        torch.testing.assert_close(parameter.detach(), expected)
        state = update.state_dict()
        update = ParamOptimizer(config, [parameter])
        update.load_state_dict(state)
    assert len(update.tensors()) == config.moments
    assert update.tensors()[0].flatten().tolist() == pytest.approx(momentum.flatten().tolist())


def test_lion_skips_parameters_without_a_gradient() -> None:
    used, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    update = ParamOptimizer(Lion(lr=0.5), [used, unused])
    used.grad = torch.tensor([3.0, -3.0])
    update.step()
    assert used.tolist() == [0.5, 1.5]
    assert unused.tolist() == [1, 1]
