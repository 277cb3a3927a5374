"""What ``attn-viz`` draws in addition to the last layer's attention from CLS, read from its options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sslkit.data.pixels.rules import counted
from sslkit.errors import SslkitError, UsageError
from stages.contract.absent import no_run
from stages.contract.layout import Result, Run
from stages.inputs.encoder import EncoderSource, resolve
from stages.options.attention import AttentionOptions
from stages.options.encoder import EncoderOptions

if TYPE_CHECKING:
    from sslkit.encoder.encoder import Encoder
    from sslkit.probes.inspect.attention_maps import Query


@dataclass(frozen=True)
class AttentionRequest:
    """What is drawn in addition to the last layer's attention from CLS; None or empty if not requested."""

    layers: tuple[int, ...] = ()  # counted from 1, ascending
    queries: tuple["Query", ...] = ()  # positions in shares of width and height, or None for CLS
    rollout: bool = False  # through all layers
    kept: Sequence[tuple[float, Path]] = ()  # epochs and weights of the encoders of a timeline
    every: int | None = None  # keeps every n-th of them; None without a timeline
    against: EncoderSource | None = None  # the other run's encoder
    name: str = ""  # of the other run
    files: Mapping[str, Path] = field(default_factory=dict)  # all weights that are read, by name

    def config(self) -> Result:
        """The settings that the pictures depend on."""
        return {
            "layers": list(self.layers) or None,
            "query": list(self.queries) or None,
            "rollout": self.rollout or None,
            "timeline": self.every,
            "against": {"encoder": self.against.spec, "image_size": self.against.image_size} if self.against else None,
        }


def read_request(run: Run, source: EncoderSource, options: AttentionOptions) -> AttentionRequest:
    """The request of the options.

    Raises:
        UsageError: there is no such layer or patch, or one option requires another.
        SslkitError: the run kept no encoders, or the other run has none.
    """
    if options.every is not None and not options.timeline:
        raise UsageError("--every requires --timeline")
    every = (options.every or 1) if options.timeline else None
    kept = _kept(run, source, every) if every is not None else []
    other = _other(options.against, source) if options.against is not None else None
    files = {f"kept {epochs:g}": path for epochs, path in kept}
    if other is not None:
        files |= {f"against {name}": path for name, path in other.files.items()}
    return AttentionRequest(
        layers=_layers(options.layers, source, other) if options.layers is not None else (),
        queries=tuple(dict.fromkeys(map(read_query, options.query or []))),
        rollout=options.rollout,
        kept=kept,
        every=every,
        against=other,
        name=options.against.resolve().name if options.against is not None else "",
        files=files,
    )


def read_query(text: str) -> "Query":
    """``cls``, or a position in shares of width and height.

    >>> read_query("cls"), read_query("0.5,0.25")
    (None, (0.5, 0.25))
    """
    if text.strip().lower() == "cls":
        return None
    try:
        x, y = map(float, text.split(","))
    except ValueError:
        x = y = -1.0
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise UsageError(f"--query {text}: must be cls, or shares of width and height from 0 to 1, such as 0.5,0.25")
    return x, y


def _layers(text: str, source: EncoderSource, other: EncoderSource | None) -> tuple[int, ...]:
    encoder = outline(source)
    if not encoder.vit:
        raise SslkitError(f"{encoder.spec.arch} is not a ViT and has no layers to name; attn-viz requires a ViT")
    if text.strip().lower() == "all":
        return tuple(range(1, encoder.depth + 1))
    try:
        named = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise UsageError(f"--layers {text}: must be numbers such as 1,6,12, or all") from None
    depths = [encoder.depth] + ([outline(other).depth] if other is not None else [])
    unknown = [layer for layer in named if not 1 <= layer <= depths[0]]
    if unknown:
        raise UsageError(f"--layers {text}: {encoder.spec.arch} has layers 1 to {depths[0]}, not {unknown[0]}")
    if named[-1] > depths[-1]:
        raise UsageError(f"--layers {text}: the encoder of --against has only {depths[-1]}")
    return tuple(named)


def outline(source: EncoderSource) -> "Encoder":
    """The encoder without weights, which is quick to build and has the same sizes."""
    import torch

    from sslkit.encoder.encoder import Encoder
    from sslkit.encoder.spec import EncoderSpec

    with torch.device("meta"):
        return Encoder(EncoderSpec(**source.spec or {}))


def _kept(run: Run, source: EncoderSource, every: int) -> list[tuple[float, Path]]:
    if source.kind != "run":
        raise UsageError("--timeline shows the run's own training: leave out --weights, --arch and --like")
    kept = run.kept_encoders()
    if not kept:
        raise SslkitError(
            f"{run.trained.path} kept no encoders during training, so there is no --timeline to draw: train with "
            "`sslkit pretrain RUN --keep-every EPOCHS`"
        )
    return kept[::-1][::every][::-1]


def _other(path: Path, source: EncoderSource) -> EncoderSource:
    other = Run(path)
    if not path.is_dir():
        raise SslkitError(f"--against: {no_run(path, 'name a pretrained run')}")
    if not other.encoder.exists():
        raise SslkitError(f"--against {path} has no trained encoder{other.why_missing(other.encoder)}")
    found = resolve(other, EncoderOptions(run=path))
    if found.channels != source.channels:
        theirs = counted(found.channels)
        raise UsageError(f"--against {path} takes images of {theirs}, this encoder of {source.channels}: name another")
    return found
