"""Every recipe's method at a scale whose steps take milliseconds, for the tests of methods and of devices."""

from pathlib import Path

import numpy as np
import torch

from sslkit import registry
from sslkit.data.batch import Batch
from sslkit.data.loader import DecodedImages, ViewBatches
from sslkit.data.views import ViewMaker
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.methods.base import DataFacts, Method
from sslkit.recipe.schema import resolve
from sslkit.recipe.sections import TaughtSection
from sslkit.schedules import Moment
from stages.inputs.recipes import find, names

SCALES = ("demo", "small32", "small64", "imagenet", "imagenet-subset")
RECIPES = [name for name in names() if name not in SCALES]
CPU = torch.device("cpu")


def build(name: str, scale: Path, *overrides: str, device: torch.device = CPU) -> Method:
    """The method of a recipe, with the same random weights each time and on every device."""
    torch.manual_seed(0)
    recipe = resolve([find(name), scale], ["method.permutations=8"] * (name == "jigsaw") + list(overrides))
    kind, more = registry.load("sslkit.methods", recipe.method.name), {}
    if isinstance(recipe.method, TaughtSection):
        teacher = Encoder(EncoderSpec("vit_tiny_patch16_224", 24, 8, 36, 1, 3)).to(device)
        more["teacher"] = FrozenEncoder(teacher, 24, device, "fp32")
    return kind(recipe, DataFacts(samples=40, classes=3), **more).to(device)


def batch_of(method: Method, count: int = 6) -> Batch:
    """The views that a method of 32 px images sees of so many images of noise, of 3 classes."""
    pixels = torch.randint(0, 256, (count, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    views = ViewMaker(method.recipe.views, 32, 8, 0)
    return ViewBatches(DecodedImages(pixels, np.arange(count) % 3), views)[0, np.arange(count)]


def begun(method: Method) -> Method:
    """The method after what it does before its first epoch."""
    generator = torch.Generator().manual_seed(2)
    method.begin_epoch(Moment(0, 10, 10), lambda: torch.randn(40, 24, generator=generator))
    return method
