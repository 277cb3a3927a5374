"""The options that name an encoder, the data it is judged on, and where it runs: one set for every stage with one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslkit.errors import SslkitError, UsageError
from stages.contract.layout import Run, transferred
from stages.inputs.encoder import EncoderSource, resolve
from stages.options.basic import (
    ArchOption,
    DataOption,
    Device,
    DeviceOption,
    LikeOption,
    NoPixelsOption,
    Precision,
    PrecisionOption,
    PretrainedOption,
    SeedOption,
    WeightsOption,
)
from stages.options.splicing import spliced

if TYPE_CHECKING:
    import torch

    from sslkit.device import Precision as Bits

# By parameter, in the order of `--help`.
OPTIONS: dict[str, tuple[Any, Any]] = {
    "weights": (WeightsOption, None),
    "arch": (ArchOption, None),
    "pretrained": (PretrainedOption, False),
    "like": (LikeOption, None),
    "data": (DataOption, None),
    "seed": (SeedOption, 0),
    "device": (DeviceOption, Device.auto),
    "precision": (PrecisionOption, Precision.auto),
}


@dataclass(frozen=True)
class EncoderChoice:
    """What the options say; see ``encoder_source.resolve``."""

    weights: str | None
    arch: str | None
    pretrained: bool
    like: Path | None
    data: Path | None
    seed: int
    device: Device
    precision: Precision

    @property
    def own(self) -> bool:
        """Whether no encoder is named: then it is the run's."""
        return self.weights is None and self.arch is None and not self.pretrained and self.like is None

    def open(self, path: Path) -> Run:
        """The run, on ``--data``, else on its own data, else on that of the run named by ``--like``.

        Other data than the run's own is judged below ``on/``; see ``transferred``.
        """
        run = transferred(path, self.data)
        if self.like is not None and not self.like.is_dir():
            raise SslkitError(f"--like {self.like} is no run directory")
        if self.data is None and self.like is not None and not run.manifest.exists():
            return transferred(path, Run(self.like).data.parent)
        return run

    def source(self, run: Run, image_size: int | None = None, patch_size: int | None = None) -> EncoderSource:
        """The encoder."""
        return resolve(run, self.weights, self.arch, self.pretrained, self.like, image_size, patch_size, self.seed)

    def place(self) -> "tuple[torch.device, Bits]":
        """Where the encoder runs, and the precision of its matrix products there."""
        from sslkit.device import pick_device, resolve_precision

        where = pick_device(self.device.value)
        return where, resolve_precision(self.precision.value, where)

    def no_pixels(self, why: str) -> None:
        """Refuse the baseline that is no encoder.

        Raises:
            UsageError: it was named.
        """
        if self.weights == "pixels":
            raise UsageError(f"--weights pixels {why}: name a checkpoint FILE, or random")

    def random(self) -> "EncoderChoice":
        """The same architecture, untrained."""
        return replace(self, weights="random")


def takes_features(command: Callable[..., None]) -> Callable[..., None]:
    """A command with these options in the place of its parameter ``encoder``, an ``EncoderChoice``."""
    return spliced(command, "encoder", OPTIONS, EncoderChoice)


def takes_encoder(command: Callable[..., None]) -> Callable[..., None]:
    """The same for a command that looks into the encoder, which pixels have not."""
    return spliced(command, "encoder", {**OPTIONS, "weights": (NoPixelsOption, None)}, EncoderChoice)
