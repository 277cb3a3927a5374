"""The frozen teacher of a method: found as ``--weights`` is, opened before any data is read, and recorded."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sslkit.artifacts import DamagedFile, read_json
from sslkit.errors import SslkitError, UsageError
from stages.inputs.weights import NamedWeights, described, find_weights

if TYPE_CHECKING:
    import torch

    from sslkit.encoder.frozen import FrozenEncoder
    from sslkit.recipe.sections import TaughtSection
    from sslkit.weights.checkpoint import Checkpoint
    from sslkit.weights.coverage import Coverage

NAME_IT = "for a teacher that is --set method.teacher_arch=NAME"


@dataclass(frozen=True)
class FrozenTeacher:
    """A teacher and where it comes from.

    Attributes:
        named: as the recipe or the command line has it.
        frozen: the encoder, on the device, with its size and normalisation.
        coverage: which keys of the file filled it.
        sha256: of the file, or of timm's tensors.
        remarks: on what was assumed.
    """

    named: NamedWeights
    frozen: "FrozenEncoder"
    coverage: "Coverage"
    sha256: str
    remarks: list[str]

    @property
    def inputs(self) -> dict[str, Any]:
        """The file that the training run depends on, whatever its path."""
        return {"teacher": self.named.files["weights"]} if self.named.files else {}

    @property
    def config(self) -> dict[str, Any]:
        """What the training run depends on in place of ``method.teacher``: a file may move, timm's has a name."""
        return {"teacher": None if self.named.files else {"name": self.named.given, "sha256": self.sha256}}

    def provenance(self) -> dict[str, Any]:
        """What ``encoder.json`` says about it."""
        frozen, coverage = self.frozen, self.coverage
        return {
            "teacher": self.named.given,
            "file": coverage.file,
            "sha256": self.sha256,
            "layout": coverage.layout,
            "arch": frozen.encoder.spec.arch,
            "width": frozen.encoder.width,
            "image_size": frozen.size,
            "mean": list(frozen.mean),
            "std": list(frozen.std),
            "remarks": [*coverage.remarks, *self.remarks],
        }

    def line(self) -> str:
        """The report in one line."""
        encoder = self.frozen.encoder
        about = f"teacher: {encoder.spec.arch}, width {encoder.width}, at {self.frozen.size} px"
        return "; ".join([about, self.coverage.line(), *self.remarks])


def open_teacher(section: "TaughtSection", device: "torch.device") -> FrozenTeacher | None:
    """The teacher that a recipe names, in eval mode; None where it names none.

    Raises:
        SslkitError: there is no such file, or it does not fill the architecture.
    """
    if section.teacher is None:
        return None
    named = find_weights(section.teacher, option="--teacher")
    checkpoint = named.open()
    try:
        spec, remarks = ({"arch": section.teacher_arch}, []) if section.teacher_arch else described(checkpoint)
        spec |= {"image_size": section.teacher_size or spec.get("image_size") or 224, "drop_path": 0.0}
        encoder, coverage = _filled(spec, checkpoint)
    except SslkitError as error:
        hint = f" ({NAME_IT})" if "--arch" in str(error) else ""
        raise type(error)(f"--teacher {section.teacher}: {error}{hint}") from error
    mean, std = _normalisation(checkpoint, named, encoder.spec.in_channels)
    return FrozenTeacher(
        named,
        _frozen(encoder.to(device), device, mean, std),
        coverage,
        named.fingerprint(checkpoint),
        remarks if mean else [*remarks, "its normalisation is taken to be ImageNet's: the file does not say"],
    )


def _filled(spec: dict[str, Any], checkpoint: "Checkpoint") -> Any:
    """An encoder of a specification, filled, and which keys filled it; the global generator stays as it was."""
    import torch

    from sslkit.encoder.encoder import Encoder
    from sslkit.encoder.spec import EncoderSpec
    from sslkit.weights.read import load_checkpoint

    with torch.random.fork_rng(devices=[]):
        encoder = Encoder(EncoderSpec(**spec))
    if encoder.vit and spec["image_size"] % encoder.patch_size:
        raise UsageError(f"method.teacher_size {spec['image_size']} is no multiple of its patch {encoder.patch_size}")
    return encoder, load_checkpoint(encoder, checkpoint)


def _frozen(encoder: Any, device: "torch.device", mean: Any, std: Any) -> "FrozenEncoder":
    from sslkit.encoder.frozen import FrozenEncoder

    statistics = (mean, std) if mean else encoder.spec.statistics
    return FrozenEncoder(encoder.eval(), encoder.spec.image_size, device, "fp32", *statistics)


def _normalisation(checkpoint: "Checkpoint", named: NamedWeights, channels: int) -> tuple[Any, Any]:
    """Mean and standard deviation of a teacher's images: its description's, timm's or transformers'; else None."""
    about = [checkpoint.about, checkpoint.about.get("pretrained_cfg") or {}]
    if named.files:
        beside = named.files["weights"].parent / "preprocessor_config.json"
        try:
            found = read_json(beside)
            about.append({"mean": found["image_mean"], "std": found["image_std"]})
        except (DamagedFile, OSError, KeyError, TypeError):
            pass  # none, or another program's
    for each in about:
        mean, std = each.get("mean"), each.get("std")
        if all(isinstance(values, list | tuple) and len(values) == channels for values in (mean, std)):
            return tuple(map(float, mean)), tuple(map(float, std))
    return None, None
