"""A frozen encoder normalises by its own statistics and computes in its own precision."""

import pytest
import torch

from sslkit.data.normalise import normalise
from sslkit.encoder.attention import rows
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec

CPU = torch.device("cpu")
TINY = EncoderSpec("vit_tiny_patch16_224", image_size=16, patch_size=8, width=24, depth=1, heads=3)


def test_products_of_queries_and_keys_do_not_overflow_in_fp16():
    frozen = FrozenEncoder(Encoder(TINY), 16, CPU, "fp16")
    block = frozen.encoder.model.blocks[0]
    q, k = torch.zeros(1, 3, 1, 8), torch.zeros(1, 3, 5, 8)
    q[..., 0], k[:, :, 1, 0], k[:, :, 2, 0] = 300.0, 300.0, 299.0  # a product of 90,000, scaled 31,820
    row = rows(block, q.half(), k.half())
    assert row.isfinite().all()
    assert (row.argmax(-1) == 1).all()


def test_it_normalises_by_its_own_mean_and_deviation():
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    mean, std = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)
    frozen = FrozenEncoder(Encoder(TINY), 16, CPU, "fp32", mean, std)
    assert torch.equal(frozen.normalise(images), normalise(images, mean, std))


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_matrix_products_run_in_its_precision(precision, expected):
    frozen = FrozenEncoder(Encoder(TINY), 16, CPU, precision)
    with frozen.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == expected
