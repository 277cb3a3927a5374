"""What it takes to build an encoder: a timm architecture and the sizes that differ from its own."""

from dataclasses import asdict, dataclass
from typing import Any

from sslkit.data.normalise import statistics
from sslkit.errors import UsageError, did_you_mean

RGB = 3
LATER = ("norm_eps", "cls_token", "channels", "mean", "std")  # fields that an older encoder.json lacks


@dataclass(frozen=True)
class EncoderSpec:
    """An architecture and its sizes; None keeps timm's own value for the architecture."""

    arch: str = "vit_small_patch16_224"
    image_size: int = 224  # pixels, square
    patch_size: int | None = None  # pixels, square
    width: int | None = None
    depth: int | None = None
    heads: int | None = None
    norm_eps: float | None = None  # added to the variance in every LayerNorm; not an argument of timm's
    drop_path: float = 0.0
    channels: int | None = None  # C of the images; None is 3
    mean: tuple[float, ...] | None = None  # of each channel, with pixels in [0, 1]; None: see ``normalise.statistics``
    std: tuple[float, ...] | None = None
    cls_token: bool | None = None  # without one, the feature of an image is the mean of its patches

    def __post_init__(self):
        for name in ("mean", "std"):  # lists in JSON
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def in_channels(self) -> int:
        """C."""
        return self.channels or RGB

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation that its images are normalised by."""
        return statistics(self.in_channels, self.mean, self.std)

    def described(self) -> dict[str, Any]:
        """Its fields as JSON holds them; those that came later only where they are set."""
        fields = {**asdict(self), **{key: list(v) if (v := getattr(self, key)) else None for key in ("mean", "std")}}
        return {key: value for key, value in fields.items() if value or value is False or key not in LATER}

    def timm_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of ``timm.create_model``; plain timm builds the same modules from them.

        Raises:
            UsageError: sizes for an architecture that is not a plain ViT.
        """
        sizes = {"patch_size": self.patch_size, "embed_dim": self.width, "depth": self.depth, "num_heads": self.heads}
        pooling = {"class_token": self.cls_token, "global_pool": "token" if self.cls_token else "avg", "fc_norm": False}
        sizes |= pooling if self.cls_token is not None else {}
        sizes = {key: value for key, value in sizes.items() if value is not None}
        channels = {} if self.in_channels == RGB else {"in_chans": self.in_channels}
        if is_vit(self.arch):
            return {"num_classes": 0, "img_size": self.image_size, "dynamic_img_size": True, **sizes, **channels}
        if sizes:
            names = {"embed_dim": "width", "num_heads": "heads", "class_token": "cls_token"}
            keys = ", ".join(f"encoder.{names.get(key, key)}" for key in sizes if key not in ("global_pool", "fc_norm"))
            raise UsageError(f"{self.arch} is not a plain ViT and takes no {keys}: set {keys} to null")
        return {"num_classes": 0, **channels}


def is_vit(arch: str) -> bool:
    """Whether timm builds the architecture as its plain ``VisionTransformer``.

    Raises:
        UsageError: timm has no such model.
    """
    import timm  # takes seconds, which recipes and messages do without

    name = arch.split(".")[0]
    if not timm.is_model(name):
        raise UsageError(f"timm has no model '{arch}': {_near(name)}")
    return timm.model_entrypoint(name).__module__.endswith("vision_transformer")


def _near(name: str) -> str:
    """A hint that stays in the family of a wrong name: ``vit_smal`` is a ViT, not a visformer."""
    import timm

    models = timm.list_models()
    longer = [model for model in models if model.startswith(name)]
    if longer:
        return (
            f"did you mean '{min(longer, key=lambda model: (not model.endswith('_patch16_224'), len(model), model))}'?"
        )
    family = name.split("_")[0] + "_"
    return did_you_mean(name, [model for model in models if model.startswith(family)] or models)
