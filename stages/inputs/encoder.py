"""The encoder that a stage evaluates: the run's, a checkpoint, timm's, or one of two baselines."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslkit.artifacts import DamagedFile, read_json
from sslkit.data.pixels.rules import RGB, STANDARD, counted
from sslkit.errors import SslkitError, UsageError
from stages.contract.layout import Result, Run
from stages.contract.output import say
from stages.inputs.weights import TIMM, described, find_weights
from stages.options.encoder import EncoderOptions

if TYPE_CHECKING:
    import torch

    from sslkit.device import Precision
    from sslkit.encoder.encoder import Encoder
    from sslkit.encoder.frozen import FrozenEncoder
    from sslkit.encoder.spec import EncoderSpec
    from sslkit.weights.coverage import Coverage

SPEC = {  # what an encoder.json says about the architecture; see ``EncoderSpec``
    "arch": str,
    "image_size": int,
    **dict.fromkeys(("patch_size?", "width?", "depth?", "heads?", "channels?"), (int, None)),
    **dict.fromkeys(("mean?", "std?"), ([float], None)),
    "norm_eps?": (float, None),
    "drop_path?": float,
}
PIXELS_SIZE = 32  # 3072 numbers per image; more pixels make the baseline slower, not better


@dataclass(frozen=True)
class EncoderSource:
    """An encoder that can be built."""

    kind: str  # run, file, timm, random or pixels
    spec: dict[str, Any] | None  # arguments of ``EncoderSpec``; None for pixels
    image_size: int  # pixels
    files: Mapping[str, Path]  # by name: ``weights``, and ``encoder_info`` if an encoder.json describes them
    seed: int | None = None  # of the initial weights; None unless they are random

    @property
    def channels(self) -> int:
        """C of the images that it takes."""
        return (self.spec or {}).get("channels") or RGB

    def config(self) -> Result:
        """What the features depend on, besides the content of the files."""
        return {"weights": self.kind, "encoder": self.spec, "image_size": self.image_size, "seed": self.seed}


def resolve(
    run: Run, options: EncoderOptions, image_size: int | None = None, patch_size: int | None = None
) -> EncoderSource:
    """The encoder that the options name.

    Args:
        run: whose encoder it is, where the options name none.
        options: of the command line.
        image_size: pixels; by default the encoder's own.
        patch_size: pixels, with ``--arch``; by default the architecture's.

    Raises:
        UsageError: the options contradict each other, or say too little.
        SslkitError: the file they name, or the run's own encoder, is missing.
    """
    weights, arch = options.weights, options.arch
    own_photos = any(getattr(options, name, None) is not None for name in ("images", "dataset"))
    of_data = RGB if own_photos else data_channels(run)
    channels = {} if of_data == RGB else {"channels": of_data}
    baseline = weights in ("random", "pixels")
    if options.like is not None and not baseline:
        raise UsageError(
            "--like goes with --weights random or pixels; to evaluate another run's encoder name it by --weights FILE"
        )
    if patch_size is not None and arch is None:
        raise UsageError("--patch-size goes with --arch; an existing encoder fixes its patch size")
    if options.pretrained and (weights is not None or arch is None):
        raise UsageError("--pretrained goes with --arch NAME, and without --weights")
    if weights and weights.startswith(TIMM):
        if arch is not None or options.pretrained:
            raise UsageError(f"--weights {weights} names the architecture too: leave out --arch and --pretrained")
        spec = {"arch": weights.removeprefix(TIMM), "image_size": image_size or 224, "patch_size": None, **channels}
        return EncoderSource("timm", spec, spec["image_size"], {})
    if weights == "pixels":
        return EncoderSource("pixels", None, image_size or PIXELS_SIZE, {})
    if arch is not None:
        if weights is None and not options.pretrained:
            raise UsageError(f"--arch {arch} requires --pretrained, or --weights with a FILE or random")
        spec = {"arch": arch, "image_size": image_size or 224, "patch_size": patch_size, **channels}
        kind = "timm" if options.pretrained else "random" if baseline else "file"
        files = {"weights": find_weights(str(weights)).files["weights"]} if kind == "file" else {}
        return EncoderSource(kind, spec, spec["image_size"], files, options.seed if baseline else None)
    source = _described(run, options, image_size, channels)
    if not own_photos and source.channels != of_data:
        both = {of_data, source.channels} <= set(STANDARD)
        other = f", or prepare the data again with --channels {source.channels}" if both else ""
        raise SslkitError(
            f"the encoder takes images of {counted(source.channels)}, those of {run.data} have {of_data}: "
            f"name another encoder{other}"
        )
    return source


def data_channels(run: Run) -> int:
    """C of a run's images; 3 for a run without data."""
    return run.prepared().get("channels", RGB) if run.manifest.exists() else RGB


def _described(run: Run, options: EncoderOptions, image_size: int | None, channels: Mapping[str, int]) -> EncoderSource:
    """An encoder whose architecture an encoder.json describes: the run's, a file's, or that of ``--like``."""
    weights, model = options.weights, Run(options.like) if options.like is not None else run
    file, info = model.encoder, model.encoder_info
    if weights == "random" and not info.exists():
        lacks = f"{model.path} has no trained encoder"
        if model.record_in(model.pretrain) is not None:
            raise SslkitError(f"{lacks}{model.why_missing(info)}")
        raise UsageError(f"--weights random requires --arch NAME or --like RUN: {lacks}")
    if weights and weights != "random":
        found = find_weights(weights)
        if "encoder_info" not in found.files:
            spec, remarks = described(found.open())
            for remark in remarks:
                say(remark)
            spec = {**channels, **spec, "image_size": image_size or spec.get("image_size") or 224, "drop_path": 0.0}
            return EncoderSource("file", spec, spec["image_size"], found.files)
        file, info = found.files["weights"], found.files["encoder_info"]
    if not weights:
        check_own(run)
    spec = {**_spec_in(model.need(info)), "drop_path": 0.0}
    spec["image_size"] = image_size or spec["image_size"]
    if weights == "random":
        return EncoderSource("random", spec, spec["image_size"], {}, options.seed)
    if not weights:
        run.need(file)
    return EncoderSource(
        "file" if weights else "run", spec, spec["image_size"], {"weights": file, "encoder_info": info}
    )


def check_own(run: Run, named: bool = True) -> None:
    """Refuse a run that was made to hold features of another encoder: no stage is missing there.

    Args:
        run: the run directory.
        named: whether the stage has options that name another encoder.

    Raises:
        SslkitError: it is such a run; the message says how to name the encoder.
    """
    record = run.record("extract")
    kind = record["config"].get("weights", "run") if record else "run"
    if record is None or kind == "run" or run.encoder.exists():
        return
    spec = record["config"]["encoder"] or {}
    if kind == "pixels":
        why, advice = "is a baseline of raw pixels, which has no encoder", "name a pretrained run, or --weights FILE"
    elif kind == "random":
        # A plain timm architecture has a name; one that follows a recipe is that of the run that was trained by it.
        like = f"--arch {spec['arch']}" if "width" not in spec else f"--like {_likely(run, spec)}"
        like += f" --seed {record['config']['seed']}" if record["config"].get("seed") else ""
        why, advice = (
            "is a baseline of random weights, which are not kept",
            f"recreate it with --weights random {like}",
        )
    elif kind == "timm":
        why, advice = f"has features of timm's {spec['arch']}", f"name it by --arch {spec['arch']} --pretrained"
    else:
        path = os.path.normpath(run.path / record["inputs"]["weights"]["path"])
        arch = "" if "drop_path" in spec else f" --arch {spec['arch']}"  # without it the files describe themselves
        why, advice = "has features of another encoder", f"name it by --weights {path}{arch}"
    raise SslkitError(f"{run.path} {why}: {advice if named else 'name a pretrained run'}")


def _likely(run: Run, spec: Mapping[str, Any]) -> str:
    """The run whose architecture a baseline shares: that of its data, if it has such an encoder."""
    home = Run(run.data.parent)
    if not home.encoder_info.exists():
        return "A_PRETRAINED_RUN"
    theirs = _spec_in(home.need(home.encoder_info))
    same = {**theirs, "drop_path": 0.0, "image_size": spec["image_size"]} == dict(spec)
    return os.path.relpath(home.path) if same else "A_PRETRAINED_RUN"


def _spec_in(path: Path) -> Result:
    """The ``EncoderSpec`` in an encoder.json."""
    spec = read_json(path, {"spec": SPEC})["spec"]
    if unknown := spec.keys() - {key.removesuffix("?") for key in SPEC}:
        raise DamagedFile(path, f"no encoder has a {min(unknown)}")
    return spec


def build(source: EncoderSource, device: "torch.device", precision: "Precision") -> "FrozenEncoder":
    """The encoder of a source on a device, in eval mode; says on standard error what a checkpoint file filled.

    Raises:
        SslkitError: weights that do not fill it, or cannot be fetched; pixels, which have no encoder.
    """
    frozen, coverage = load(source, device, precision)
    if coverage and source.kind == "file":
        say(coverage.line())
    return frozen


def load(
    source: EncoderSource, device: "torch.device", precision: "Precision"
) -> "tuple[FrozenEncoder, Coverage | None]":
    """The encoder of a source, silently, and which keys of the file filled it; None where no file was read."""
    import torch

    from sslkit.encoder.encoder import Encoder
    from sslkit.encoder.frozen import FrozenEncoder
    from sslkit.encoder.spec import EncoderSpec
    from sslkit.weights.read import load_checkpoint

    spec = EncoderSpec(**source.spec or {})
    if source.kind == "timm":
        encoder = _pretrained(spec).to(device).eval()
        about = encoder.model.pretrained_cfg
        mean, std = tuple(about["mean"]), tuple(about["std"])
        if source.channels != len(mean):
            say(f"{spec.arch}: weights of 3 channels adapted to {source.channels} by timm's convention")
            mean, std = ((sum(values) / len(values),) * source.channels for values in (mean, std))
        return FrozenEncoder(encoder, source.image_size, device, precision, mean, std), None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed or 0)
        encoder = Encoder(spec)
    coverage = load_checkpoint(encoder, source.files["weights"]) if "weights" in source.files else None
    # All published checkpoints that sslkit reads were trained with ImageNet's mean and standard deviation, which the
    # description names otherwise.
    return FrozenEncoder(encoder.to(device).eval(), source.image_size, device, precision), coverage


def _pretrained(spec: "EncoderSpec") -> "Encoder":
    from sslkit.encoder.encoder import Encoder

    try:
        return Encoder(spec, pretrained=True)
    except SslkitError:
        raise
    except Exception as error:  # the hub's client, its cache and timm all raise errors of their own
        why = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
        raise SslkitError(f"timm could not fetch weights of {spec.arch}: {why}; try --weights FILE") from error
