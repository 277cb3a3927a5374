"""Export formats: what graphs take and give, and what a library lacks."""

import pytest
import torch

from sslkit import registry
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import UsageError
from sslkit.export.formats.transformers import TransformersFolder

FORMATS = "sslkit.export.formats"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_graphs_take_batches_of_any_size_and_give_patches(tmp_path, format):
    encoder = Encoder(EncoderSpec(image_size=32, patch_size=8, width=24, depth=2, heads=3)).eval()
    registry.load(FORMATS, format)().write(encoder, tmp_path)
    images = torch.randn(5, 3, 32, 32)
    if format == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
        found = [torch.from_numpy(a) for a in session.run(["cls", "patches"], {"images": images.numpy()})]
    else:
        found = torch.jit.load(tmp_path / "encoder.torchscript.pt")(images)
    with torch.no_grad():
        tokens = encoder(images)
    for ours, theirs in zip((tokens.cls, tokens.patches), found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", ["resnet18", "vit_base_patch16_siglip_224", "vit_small_patch14_reg4_dinov2"])
def test_an_architecture_that_transformers_lacks_is_refused(arch, tmp_path):
    pytest.importorskip("transformers")
    size = 28 if "patch14" in arch else 32
    sizes = {} if arch == "resnet18" else {"width": 48, "depth": 1, "heads": 3}
    with pytest.raises(UsageError, match=r"which transformers' ViTModel lacks: export it with --format timm"):
        TransformersFolder().write(Encoder(EncoderSpec(arch, size, **sizes)), tmp_path)


def test_a_format_whose_packages_are_missing_says_how_to_install_them():
    class Absent(TransformersFolder):
        requires = ("no_such_package",)

    with pytest.raises(UsageError, match=r"requires no_such_package: pip install 'sslkit\[transformers\]'"):
        Absent().check_installed()
