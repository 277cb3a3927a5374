import pytest
import torch

from sslkit import device
from sslkit.errors import UsageError

CPU = torch.device("cpu")


def test_cpu_is_always_there():
    assert device.pick_device("cpu") == CPU
    assert device.pick_device("auto").type in ("cpu", "cuda", "mps")


def test_a_device_that_is_not_there_is_a_usage_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"--device cuda.*try --device cpu"):
        device.pick_device("cuda")
    with pytest.raises(UsageError, match="auto, cpu, cuda or mps"):
        device.pick_device("tpu")


def test_each_local_rank_has_its_own_cuda_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device.pick_device("auto") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match="at most 2 processes"):
        device.pick_device("cuda")


@pytest.mark.parametrize(
    ("can", "expected"), [({"amx_bf16": True}, "bf16"), ({"avx512_bf16": True}, "bf16"), ({"avx2": True}, "fp32")]
)
def test_auto_precision_follows_the_cpu(monkeypatch, can, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can, raising=False)
    assert device.resolve_precision("auto", CPU) == expected


def test_precision_can_be_named():
    assert device.resolve_precision("bf16", CPU) == "bf16"
    assert device.resolve_precision("fp32", CPU) == "fp32"
    assert device.resolve_precision("auto", torch.device("mps")) == "fp32"
    with pytest.raises(UsageError, match="--precision fp16"):
        device.resolve_precision("fp16", CPU)


def test_autocast_changes_products_only_when_asked():
    a = torch.ones(2, 2)
    with device.autocast(CPU, "bf16"):
        assert (a @ a).dtype == torch.bfloat16
    with device.autocast(CPU, "fp32"):
        assert (a @ a).dtype == torch.float32
