"""What every optimizer shares: parameter groups, schedule, clipping, and a step that the device itself can skip."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import (
    Tensor,
    _foreach_mul_,  # pyright: ignore[reportPrivateImportUsage]
    _foreach_norm,  # pyright: ignore[reportPrivateImportUsage]
    nn,
)

from sslkit.recipe.sections import OptimSection
from sslkit.schedules import Moment, cosine, warmup_cosine

REFERENCE_BATCH = 256  # images for which a recipe's lr is meant (arXiv:1706.02677)


class Optimizer(OptimSection, ABC):
    """A kind of optimizer; its fields are the keys of the recipe's ``optim`` section."""

    @property
    def moments(self) -> int:
        """How many numbers it keeps for every weight; Adam's two, where a kind does not say."""
        return 2

    @abstractmethod
    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """A fused torch optimizer over parameter groups, at learning rate 0 until ``schedule`` sets it."""


def build(
    module: nn.Module, section: OptimSection, factors: Mapping[nn.Parameter, float] | None = None
) -> torch.optim.Optimizer:
    """An optimizer over all parameters that require a gradient; biases and 1-D parameters do not decay.

    A parameter's learning rate is multiplied by its factor, 1 where it has none.
    """
    assert isinstance(section, Optimizer)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    trained = [p for p in module.parameters() if p.requires_grad]
    # Those that decay come first.
    for parameter in sorted(trained, key=lambda p: p.ndim <= 1):
        key = ((factors or {}).get(parameter, 1.0), parameter.ndim > 1)
        groups.setdefault(key, []).append(parameter)
    return section.make(
        [{"params": found, "decays": decays, "factor": factor} for (factor, decays), found in groups.items()]
    )


def schedule(optimizer: torch.optim.Optimizer, section: OptimSection, batch_size: int, at: Moment) -> dict[str, float]:
    """Set learning rate and weight decay of this moment; returns them for the log."""
    peak = section.lr * batch_size / REFERENCE_BATCH
    lr = warmup_cosine(peak, min(section.final_lr, peak), section.warmup_epochs, at)
    weight_decay = cosine(*section.weight_decay, at.step / at.total)
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("factor", 1.0)  # checkpoints of earlier versions have none
        group["weight_decay"] = weight_decay if group["decays"] else 0.0
    return {"lr": lr, "weight_decay": weight_decay}


@torch.no_grad()
def clip_each(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """Scale every parameter's gradient, in place, to a norm of at most ``limit``, each by itself as DINO does.

    Returns:
        The norm of all gradients together before clipping, 0-dim on the device; not finite when any gradient is.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = _foreach_norm(gradients)
    if limit is not None:
        stacked = torch.stack(norms)
        factors = (limit / (stacked + 1e-6)).clamp_max_(1.0)
        _foreach_mul_(gradients, list(factors.unbind()))
        return stacked.norm()
    return torch.stack(norms).norm()


def step_unless(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
    """One optimizer step, skipped on the device where ``bad`` (0-dim bool) is true; the host does not wait for it.

    Fused optimizers read these two attributes when a gradient scaler sets them; the same switch serves here.
    """
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
    optimizer.step()


def forget(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Reset the moments, momenta and step counts of parameters that start over to 0, as at the first step."""
    for parameter in parameters:
        for value in optimizer.state.get(parameter, {}).values():
            value.zero_()
