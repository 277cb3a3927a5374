"""Every optimizer: the conformance all must meet, and what each promises by itself."""

import copy

import pytest
import torch
from torch import nn

from sslkit import registry
from sslkit.errors import UsageError
from sslkit.optimizers import base
from sslkit.optimizers.base import Optimizer
from sslkit.optimizers.sgd import Sgd
from sslkit.recipe.schema import Recipe, resolve, validated
from sslkit.schedules import Moment
from stages.inputs.recipes import find

NAMES = registry.names("sslkit.optimizers")
AT = Moment(step=50, steps_per_epoch=10, epochs=10)
YES, NO = torch.tensor(True), torch.tensor(False)


def section(name: str, **keys) -> Optimizer:
    built = validated(Recipe, {"optim": {"name": name, "warmup_epochs": 0, **keys}}).optim
    assert isinstance(built, Optimizer)
    return built


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))


def step(trained: nn.Module, optimizer: torch.optim.Optimizer, bad: torch.Tensor) -> None:
    trained.zero_grad()
    trained(torch.arange(20.0).view(5, 4).sin()).square().sum().backward()
    base.step_unless(optimizer, bad)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_lowers_the_loss(name):
    settings = section(name, lr=0.01, weight_decay=[0, 0])
    weight = nn.Parameter(torch.full((3, 3), 2.0))
    holder = nn.ParameterList([weight])
    optimizer = base.build(holder, settings)
    base.schedule(optimizer, settings, base.REFERENCE_BATCH, AT)
    weight.square().sum().backward()
    base.step_unless(optimizer, NO)
    assert (weight < 2.0).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_skipped_step_leaves_no_trace(name):
    """Not in the weights, nor in what the optimizer remembers, also where it is the very first."""
    plain, skipping = model(), model()
    settings = section(name)
    runs = []
    for trained, flags in ((plain, [NO, NO]), (skipping, [YES, NO, YES, NO])):
        optimizer = base.build(trained, settings)
        base.schedule(optimizer, settings, base.REFERENCE_BATCH, AT)
        for flag in flags:
            step(trained, optimizer, flag)
        runs.append(trained)
    for one, other in zip(runs[0].parameters(), runs[1].parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_that_are_forgotten_start_as_new_ones_do(name):
    settings, trained = section(name), model()
    optimizer = base.build(trained, settings)
    base.schedule(optimizer, settings, base.REFERENCE_BATCH, AT)
    step(trained, optimizer, NO)
    fresh = copy.deepcopy(trained)
    new = base.build(fresh, settings)
    base.schedule(new, settings, base.REFERENCE_BATCH, AT)
    base.forget(optimizer, trained.parameters())
    step(trained, optimizer, NO)
    step(fresh, new, NO)
    for one, other in zip(trained.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_its_state_survives_a_checkpoint(name):
    settings = section(name)
    whole, resumed = model(), model()
    first = base.build(whole, settings)
    base.schedule(first, settings, base.REFERENCE_BATCH, AT)
    step(whole, first, NO)
    resumed.load_state_dict(whole.state_dict())
    second = base.build(resumed, settings)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for trained, optimizer in ((whole, first), (resumed, second)):
        step(trained, optimizer, NO)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_without_a_gradient_at_first_is_trained_later(name):
    """As a head's last layer, which is frozen for an epoch."""
    settings, trained = section(name), model()
    optimizer = base.build(trained, settings)
    base.schedule(optimizer, settings, base.REFERENCE_BATCH, AT)
    late = next(iter(trained.parameters()))
    before = late.detach().clone()
    trained(torch.ones(2, 4).cumsum(1)).square().sum().backward()
    late.grad = None
    base.step_unless(optimizer, NO)
    assert torch.equal(late, before)
    step(trained, optimizer, NO)
    assert not torch.equal(late, before)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_the_textbooks(nesterov):
    settings = section("sgd", lr=0.05, final_lr=0.05, momentum=0.8, nesterov=nesterov, weight_decay=[0.1, 0.1])
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]]))
    optimizer = base.build(nn.ParameterList([weight]), settings)
    base.schedule(optimizer, settings, base.REFERENCE_BATCH, AT)
    w, v = weight.detach().clone(), torch.zeros(1, 2)
    for gradient in ([0.5, 1.0], [-1.0, 2.0], [0.0, 3.0]):
        weight.grad = torch.tensor([gradient])
        base.step_unless(optimizer, NO)
        decayed = torch.tensor([gradient]) + 0.1 * w
        v = 0.8 * v + decayed
        w = w - 0.05 * (decayed + 0.8 * v if nesterov else v)
        torch.testing.assert_close(weight.detach(), w)


def test_biases_and_1d_parameters_do_not_decay_and_rates_follow_their_factors():
    trained, settings = model(), section("adamw", lr=1e-3, weight_decay=[0.2, 0.2])
    weight = next(iter(trained.parameters()))
    optimizer = base.build(trained, settings, {weight: 0.5})
    rates = base.schedule(optimizer, settings, 2 * base.REFERENCE_BATCH, Moment(0, 10, 10))
    assert rates == {"lr": pytest.approx(2e-3), "weight_decay": pytest.approx(0.2)}
    found = {p: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert found[weight] == (pytest.approx(1e-3), pytest.approx(0.2))
    assert all(found[p] == (pytest.approx(2e-3), 0.0) for p in trained.parameters() if p is not weight)


def test_each_gradient_is_clipped_by_itself():
    small, large = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    small.grad, large.grad = torch.tensor([0.3, 0.4]), torch.tensor([30.0, 40.0])
    norm = base.clip_each([small, large], 1.0)
    assert norm.item() == pytest.approx((0.5**2 + 50**2) ** 0.5)
    torch.testing.assert_close(small.grad, torch.tensor([0.3, 0.4]))
    torch.testing.assert_close(large.grad, torch.tensor([0.6, 0.8]))
    assert base.clip_each([small, large], None).item() == pytest.approx((0.5**2 + 1) ** 0.5)


def test_a_recipe_chooses_by_name_and_leaves_the_keys_of_the_other_behind():
    found = resolve([find("mae"), find("small32")], ["optim.name=sgd", "optim.lr=0.1"]).optim
    assert isinstance(found, Sgd)
    assert (found.lr, found.momentum) == (0.1, 0.9)
    with pytest.raises(UsageError, match=r"unknown key 'optim.betas'"):
        resolve([find("mae")], ["optim={name: sgd, betas: [0.9, 0.95]}"])
    with pytest.raises(UsageError, match=r"did you mean 'sgd'"):
        resolve([find("mae")], ["optim.name=sgdd"])
    with pytest.raises(UsageError, match=r"optim.nesterov requires a momentum"):
        resolve([find("mae")], ["optim={name: sgd, momentum: 0, nesterov: true}"])
