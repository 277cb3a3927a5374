"""Steps of every recipe on torch's ``meta`` device: no tensor is on the wrong device, and nobody waits for it.

It holds no values, so reading one is an error there, and so is mixing it with the host: what would fail on CUDA, or
wait for it in every step, fails here without any.
"""

import sys
from dataclasses import replace

import pytest
import torch
from tiny_methods import RECIPES, batch_of, begun, build
from tiny_trainers import trainer_of
from torch.utils._python_dispatch import TorchDispatchMode

from sslkit.data.augment import normalise
from sslkit.masks.base import Masks
from sslkit.training.loop import Trainer

META = torch.device("meta")


class Waits(TorchDispatchMode):
    """Records copies from the host for which the host would wait until the device has done all that it was asked."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("_to_copy", "copy_") and isinstance(args[0], torch.Tensor):
            source = args[0] if name == "_to_copy" else args[1]
            waits = not (kwargs or {}).get("non_blocking", False) and not (name == "copy_" and args[2:3] == (True,))
            if source.device.type == "cpu" and out.device == META and waits:
                self.found.append(f"{name} of {tuple(source.shape)}")
        return out


@pytest.fixture
def on_meta(monkeypatch, tiny_scale):
    """Makes torch accept ``meta`` as a device to train on; gives the method of a recipe there."""
    autocast, tensor = torch.autocast, torch.tensor

    def as_on_a_cpu(device_type, *arguments, **options):
        return autocast("cpu" if device_type == "meta" else device_type, *arguments, **options)

    def made_there(data, *arguments, device=None, **options):
        assert device is None or torch.device(device) != META, "torch.tensor(..., device=...) waits for the device"
        return tensor(data, *arguments, device=device, **options)

    monkeypatch.setattr(torch, "autocast", as_on_a_cpu)
    monkeypatch.setattr(torch, "tensor", made_there)
    monkeypatch.setattr(sys.modules["torch.optim.optimizer"], "_get_fused_kernels_supported_devices", lambda: ["meta"])
    return lambda name, *overrides: begun(build(name, tiny_scale, *overrides)).to(META)


@pytest.fixture
def step(on_meta, tmp_path, monkeypatch):
    """One step of a recipe's method by the loop, and what waited for the device in it."""

    def take(name: str, *overrides: str, objects: bool = False) -> list[str]:
        method = on_meta(name, *overrides)
        monkeypatch.setattr(method, "begin_epoch", lambda at, features: ())
        monkeypatch.setattr(Trainer, "_log", lambda *_: None)
        for module in method.frozen_modules():
            module.to(META)
        trainer = trainer_of(method, tmp_path, device=META, precision="bf16")
        batch = batch_of(method, 2)
        if objects:
            batch = replace(batch, objects=torch.zeros(len(batch.crops[0]), 2, 32, 32, dtype=torch.uint8))
        normalise(torch.zeros(1, 3, 2, 2, device=META), batch.mean, batch.std)  # its constants are made once
        with Waits() as waits:
            trainer.advance(iter([batch]), 1)
        assert trainer.step == 1
        assert all(value.device == META for value in trainer.meter.sums.values())
        return waits.found

    return take


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_neither_mixes_devices_nor_reads_values_nor_waits(name, step):
    assert step(name, f"monitor.gradient_steps={int(name == 'attmask')}") == []


@pytest.mark.parametrize("name", ["attmask", "mae"])
def test_masks_of_objects_do_neither(name, step):
    assert step(name, "mask.strategy=oracle", "monitor.gradient_steps=0", objects=True) == []


def test_it_would_be_noticed(step, monkeypatch):
    def there(self, device):
        return Masks(self.mask.to(device), self.counts)

    monkeypatch.setattr(Masks, "to", there)
    assert step("ibot", "monitor.gradient_steps=0") == ["_to_copy of (4, 16)"]
    monkeypatch.setattr(Masks, "to", lambda self, device: self)
    with pytest.raises(RuntimeError, match="device"):
        step("ibot", "monitor.gradient_steps=0")
