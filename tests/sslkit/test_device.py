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


@pytest.mark.parametrize(("chosen", "expected"), [(None, 4), ("16", 32)])
def test_in_a_container_torch_takes_the_threads_that_the_limit_allows(monkeypatch, chosen, expected):
    threads = [32]
    monkeypatch.setattr(device, "cores", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)  # whoever says how many gets them
    device.pick_device("cpu")
    assert threads[-1] == expected


SAPPHIRE_RAPIDS = {"avx512_bf16": True, "avx512_fp16": True, "cpu_name": "Intel Xeon"}


@pytest.mark.parametrize(
    ("can", "expected"),
    [
        ({"amx_bf16": True}, "bf16"),
        ({"avx512_bf16": True}, "bf16"),
        ({"avx2": True}, "fp32"),
        ({**SAPPHIRE_RAPIDS, "amx_bf16": True}, "bf16"),
        (SAPPHIRE_RAPIDS, "fp32"),  # in a virtual machine that hides its AMX
        ({**SAPPHIRE_RAPIDS, "cpu_name": "AMD EPYC"}, "bf16"),
    ],
)
def test_auto_precision_follows_the_cpu(monkeypatch, can, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can, raising=False)
    assert device.resolve_precision("auto", CPU) == expected


def test_precision_can_be_named():
    assert device.resolve_precision("bf16", CPU) == "bf16"
    assert device.resolve_precision("fp32", CPU) == "fp32"
    assert device.resolve_precision("auto", torch.device("mps")) == "fp32"
    assert device.resolve_precision("fp16", CPU) == "fp16"
    with pytest.raises(UsageError, match="--precision fp8: expected auto, bf16, fp16 or fp32"):
        device.resolve_precision("fp8", CPU)


@pytest.mark.parametrize(
    ("bf16", "capability", "expected"),
    [(True, (9, 0), "bf16"), (False, (7, 5), "fp16"), (False, (7, 0), "fp16"), (False, (6, 1), "fp32")],
)
def test_auto_precision_follows_the_card(monkeypatch, bf16, capability, expected):
    rounding = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", rounding.append)
    assert device.resolve_precision("auto", torch.device("cuda")) == expected
    assert rounding == (["high"] if expected == "fp32" else [])


@pytest.mark.parametrize(
    ("capability", "precision", "expected"),
    [
        ((8, 0), "fp32", "cuda:0 (A100, fp32 products in TF32)"),
        ((8, 0), "bf16", "cuda:0 (A100)"),
        ((7, 5), "fp32", "cuda:0 (A100)"),
    ],
)
def test_the_device_is_described_with_what_it_rounds(monkeypatch, capability, precision, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    assert device.described(torch.device("cuda", 0), precision) == expected
    assert device.described(CPU, precision) == "cpu"


def test_autocast_changes_products_only_when_asked():
    a = torch.ones(2, 2)
    with device.autocast(CPU, "bf16"):
        assert (a @ a).dtype == torch.bfloat16
    with device.autocast(CPU, "fp16"):
        assert (a @ a).dtype == torch.float16
    with device.autocast(CPU, "fp32"):
        assert (a @ a).dtype == torch.float32
