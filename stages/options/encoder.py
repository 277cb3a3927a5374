"""The options that name an encoder, the data it is evaluated on, and where it runs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sslkit.errors import SslkitError, UsageError
from stages.contract.absent import no_run
from stages.contract.layout import Run, transferred
from stages.options.basic import (
    ArchOption,
    DataOptions,
    Device,
    DeviceOption,
    LikeOption,
    NoPixelsOption,
    Precision,
    PrecisionOption,
    PretrainedOption,
    SeedOption,
)

if TYPE_CHECKING:
    import torch

    from sslkit.device import Precision as Bits


@dataclass(kw_only=True)
class EncoderOptions(DataOptions):
    """An encoder, the data it is evaluated on, and where it runs; ``stages.inputs.encoder.resolve`` finds it."""

    weights: NoPixelsOption = None
    arch: ArchOption = None
    pretrained: PretrainedOption = False
    like: LikeOption = None
    seed: SeedOption = 0
    device: DeviceOption = Device.auto
    precision: PrecisionOption = Precision.auto

    @property
    def own(self) -> bool:
        """Whether no encoder is named, so that it is the run's own."""
        return self.weights is None and self.arch is None and not self.pretrained and self.like is None

    def open_run(self) -> Run:
        """The run, on ``--data``, else on its own data, else on that of the run named by ``--like``.

        Results on other data than the run's own go below ``on/``; see ``transferred``.
        """
        run = transferred(self.run, self.data)
        if self.like is not None and not self.like.is_dir():
            raise SslkitError(f"--like: {no_run(self.like, 'name a run whose encoder is trained')}")
        if self.data is None and self.like is not None and not run.manifest.exists():
            return transferred(self.run, Run(self.like).data.parent)
        return run

    def place(self) -> "tuple[torch.device, Bits]":
        """Where the encoder runs, and the precision of its matrix products there."""
        from sslkit.device import pick_device, resolve_precision

        where = pick_device(self.device.value)
        return where, resolve_precision(self.precision.value, where)

    def place_described(self) -> str:
        """The same in words, for the record."""
        from sslkit.device import described

        return described(*self.place())

    def no_pixels(self, why: str) -> None:
        """Refuse the baseline of raw pixels.

        Raises:
            UsageError: it was named.
        """
        if self.weights == "pixels":
            raise UsageError(f"--weights pixels {why}: name a checkpoint FILE, or random")
