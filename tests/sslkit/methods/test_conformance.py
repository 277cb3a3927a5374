"""Every recipe and every registered method: the conformance that all must meet."""

import pytest
import torch
from tiny_methods import RECIPES, batch_of, begun
from tiny_methods import build as build_tiny

from sslkit import registry
from sslkit.device import autocast
from sslkit.encoder.encoder import Encoder
from sslkit.methods.base import Method
from sslkit.recipe.schema import resolve
from sslkit.schedules import Moment
from stages.inputs.recipes import find

AT = Moment(step=3, steps_per_epoch=10, epochs=10)


@pytest.fixture
def build(tiny_scale):
    return lambda name, *overrides: build_tiny(name, tiny_scale, *overrides)


def test_every_method_has_a_recipe():
    assert {resolve([find(name)]).method.name for name in RECIPES} == set(registry.names("sslkit.methods"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_all_that_it_gives_the_optimizer_and_its_state_is_whole(build, name):
    method = begun(build(name))
    batch, before = batch_of(method), {k: v.clone() for k, v in method.state_dict().items()}
    losses = method(batch, AT)
    assert torch.isfinite(losses.loss)
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items() if "running" not in key)
    losses.loss.backward()
    without = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, "a parameter that gets no gradient breaks DistributedDataParallel"
    assert losses.metrics["loss"] == losses.loss.detach()
    if losses.terms:
        torch.testing.assert_close(torch.stack(list(losses.terms.values())).sum(), losses.loss)
    method.after_step(losses.statistics, AT)
    # Another copy with the same state gives the same loss.
    other = begun(build(name))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.01)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other(batch, AT).loss, method(batch, AT).loss)


@pytest.mark.parametrize("name", RECIPES)
def test_losses_are_float32_in_fp16_and_large_tokens_do_not_overflow(build, name):
    method = begun(build(name))
    with torch.no_grad():
        for encoder in (module for module in method.modules() if isinstance(module, Encoder)):
            encoder.model.norm.weight.mul_(100)  # squares of these tokens, summed over their width, exceed fp16
    with autocast(torch.device("cpu"), "fp16"):
        losses = method(batch_of(method, 4), AT)
    parts = {"loss": losses.loss, **losses.terms, **losses.metrics, **losses.statistics}
    assert [key for key, value in parts.items() if not torch.isfinite(value).all()] == []
    assert {losses.loss.dtype, *(term.dtype for term in losses.terms.values())} == {torch.float32}
    losses.loss.backward()
    assert [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("name", RECIPES)
def test_a_preview_shows_what_the_first_step_sees(build, name):
    method = build(name)
    with torch.no_grad():
        seen = method.preview(batch_of(method), AT)
    assert all(crops.ndim == 5 and crops.shape[1] == 6 for crops in seen.pictures.values())
    encoder, branch = method.exported()
    assert branch == ("teacher" if hasattr(method, "teacher") and encoder is not _student(method) else "student")
    if seen.masks is not None:
        assert seen.masks.shape[:2] == next(iter(seen.pictures.values())).shape[:2]


def _student(method: Method) -> Encoder:
    return next(module for module in method.modules() if isinstance(module, Encoder))
