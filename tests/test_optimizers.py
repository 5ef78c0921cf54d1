"""Optimizers that PyTorch does not have, compared with their articles."""

import pytest
import torch

from cifar_exp.optimizers import Lion
from cifar_exp.training.optimizers import ParamOptimizer


def test_lion_equals_its_article_also_after_resuming() -> None:
    torch.manual_seed(0)
    config = Lion(lr=0.01, weight_decay=0.1, betas=(0.9, 0.99))
    parameter = torch.nn.Parameter(torch.randn(3, 4))
    expected, momentum = parameter.detach().clone(), torch.zeros(3, 4)
    optimizer = ParamOptimizer(config, [parameter])
    for step in range(4):
        gradient, lr = torch.randn(3, 4), 0.01 / (step + 1)
        # Chen et al., 2023, algorithm 2
        direction = torch.sign(0.9 * momentum + 0.1 * gradient)
        expected = expected - lr * (direction + 0.1 * expected)
        momentum = 0.99 * momentum + 0.01 * gradient
        parameter.grad = gradient
        optimizer.set_lr(lr)
        optimizer.step()
        torch.testing.assert_close(parameter.detach(), expected)
        state = optimizer.state_dict()
        optimizer = ParamOptimizer(config, [parameter])
        optimizer.load_state_dict(state)
    assert len(optimizer.tensors()) == config.moments
    assert optimizer.tensors()[0].flatten().tolist() == pytest.approx(momentum.flatten().tolist())


def test_lion_does_not_change_parameters_without_gradients() -> None:
    used, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = ParamOptimizer(Lion(lr=0.5), [used, unused])
    used.grad = torch.tensor([3.0, -3.0])
    optimizer.step()
    assert used.tolist() == [0.5, 1.5]
    assert unused.tolist() == [1, 1]
