"""Stochastic depth by scales that the caller draws."""

import torch

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec


def test_drop_scales_drop_whole_branches_of_whole_samples():
    encoder = Encoder(
        EncoderSpec("vit_tiny_patch16_224", image_size=64, patch_size=16, drop_path=0.5, width=48, depth=3, heads=3)
    )
    images = torch.randn(4, 3, 64, 64)
    assert encoder.drop_rates == [0, 0, 0.25, 0.25, 0.5, 0.5]
    uniforms = torch.full((6, 4), 0.99)
    kept = encoder.drop_scales(uniforms)
    assert torch.allclose(kept[:, 0], torch.tensor([1, 1, 4 / 3, 4 / 3, 2, 2]))
    uniforms[:, 1] = 0.0
    dropped = encoder.drop_scales(uniforms)
    assert dropped[:, 1].tolist() == [1, 1, 0, 0, 0, 0]
    whole, plain = encoder(images, drop=dropped), encoder(images)
    assert not torch.allclose(whole.cls[1], plain.cls[1])
    assert torch.equal(encoder(images).cls, plain.cls)  # the next pass forgets the scales
    # Mean over many draws is the branch itself.
    assert encoder.drop_scales(torch.rand(6, 20000)).mean(1).sub(1).abs().max() < 0.03
