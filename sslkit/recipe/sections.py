"""The sections of a recipe and their keys: each typed, with its unit and default here and nowhere else.

What a plug-in file owns (a mask, an objective, a method) has its keys in that file; the classes here are their bases.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    SerializeAsAny,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from sslkit import registry
from sslkit.errors import UsageError
from sslkit.recipe.validation import validated
from sslkit.schedules import Duration, Momentum, momentum_over

MOST = 2**63 - 1
Share = Annotated[float, Field(ge=0, le=1)]
Probability = Share | list[Share]
Range = tuple[float, float]
Positive = tuple[PositiveFloat, PositiveFloat]


class Strict(BaseModel):
    """A section of a recipe: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _number(cls, value: Any, info: ValidationInfo) -> Any:
        """A number is not ``yes``, which would count as 1, and fits into a machine word."""
        # YAML reads an unquoted off as false.
        if isinstance(value, bool) and "'off'" in str(cls.model_fields[str(info.field_name)].annotation):
            return "on" if value else "off"
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, bool) and "bool" not in str(cls.model_fields[str(info.field_name)].annotation):
                raise PydanticCustomError("truth", "expected something other than yes, no, on, off, true or false")
            if isinstance(part, int) and abs(part) > MOST:
                raise PydanticCustomError("huge", "expected a number below 2^63")
        return value


class EncoderSection(Strict):
    """The student's encoder; None leaves the timm architecture's own value."""

    arch: str = "vit_small_patch16_224"
    image_size: int = Field(default=224, gt=0, le=16384)  # pixels
    patch_size: int | None = Field(default=None, gt=0, le=1024)  # pixels
    width: int | None = Field(default=None, gt=0, le=65536)
    depth: int | None = Field(default=None, gt=0, le=1000)
    heads: int | None = Field(default=None, gt=0, le=1024)
    cls_token: bool | None = None  # false: none, and the image's feature is the mean of its patches
    norm_eps: float | None = Field(default=None, gt=0)  # of every LayerNorm; weights of Hugging Face bring their own
    channels: int | None = Field(default=None, gt=0)  # of the images; None: 3, timm's in_chans
    drop_path: float = Field(default=0.1, ge=0, lt=1)  # of the last block, linear over depth; the student's only
    freeze: int | Literal["patch_embed"] | None = None  # embeddings and the first N blocks; or the patch embedding


class CropSection(Strict):
    """Random resized crops of one size."""

    count: int = Field(default=2, ge=0, le=1000)
    size: int | None = Field(
        default=None, gt=0, le=16384
    )  # pixels; None: image_size for global crops, 3/7 of it for local ones
    scale: Range = (0.25, 1.0)  # share of the image's area
    ratio: Positive = (3 / 4, 4 / 3)  # width / height


class AugmentSection(Strict):
    """What happens to each crop. Every file of ``data/augmentations/`` adds its keys.

    The key named after the file is its probability: a number, or a list for the first global crop, the second, ...,
    and last the local crops.
    """

    def probability(self, name: str) -> Probability:
        """The probability of an augmentation, by the name of its file."""
        return getattr(self, name)


@cache
def augment_section() -> type[AugmentSection]:
    """The section with the keys of all augmentations."""
    kinds = sorted(registry.load_all("sslkit.data.augmentations").values(), key=lambda kind: kind.order)
    # Fields come in the order of the bases from the last to the first.
    return create_model("AugmentSection", __base__=(*(kind.Config for kind in reversed(kinds)), AugmentSection))


class ViewsSection(Strict):
    """The views that are made of each image."""

    global_: CropSection = Field(default=CropSection(), alias="global")
    local: CropSection = CropSection(count=0, scale=(0.05, 0.25))  # none unless a recipe asks for them
    # Of each channel, with pixels in [0, 1]. None: ImageNet's for 3 channels, else what prepare measured on train.
    mean: tuple[Share, ...] | None = None
    std: tuple[PositiveFloat, ...] | None = None
    augment: SerializeAsAny[AugmentSection] = Field(default_factory=dict, validate_default=True)

    @field_validator("augment", mode="before")
    @classmethod
    def _augmentations(cls, value: Any) -> Any:
        return validated(augment_section(), value, "views.augment") if isinstance(value, Mapping) else value


class MethodSection(Strict):
    """The method, a file of ``methods/``, which adds its keys; ``method: mae`` is short for ``{name: mae}``."""

    name: str = "joint_embedding"


class TaughtSection(MethodSection):
    """The keys of a method whose teacher is given and stays as it is."""

    teacher: str | None = None  # FILE, RUN or timm:NAME
    teacher_arch: str | None = None  # timm's name, for a file that does not say
    teacher_size: int | None = Field(default=None, gt=0, le=16384)  # pixels; None: the file's own, at most 224


class MaskSection(Strict):
    """What the student does not see; ``strategy`` names a file of ``masks/``, which adds its keys."""

    strategy: str = ""
    ratio: tuple[float, float] = (0.1, 0.5)  # share of the patches that is hidden, uniform between the two
    ratio_per: Literal["crop", "step"] = "crop"  # one draw for each crop, or one for all crops of a step
    probability: float = Field(default=0.5, ge=0, le=1)  # that a crop is masked at all

    @field_validator("ratio", mode="before")
    @classmethod
    def _one_number_is_a_range(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _ratio_in_order(self) -> "MaskSection":
        low, high = self.ratio
        if not 0 <= low <= high <= 1:
            raise UsageError(f"mask.ratio {list(self.ratio)} must be two numbers in [0, 1], the smaller one first")
        return self


class TeacherSection(Strict):
    """The exponential moving average of the student: momentum at the start and at the end, along a cosine.

    A momentum is a number, or the share of the run over which it averages, such as "5%".
    """

    momentum: tuple[Momentum, Momentum] = (0.996, 1.0)

    @field_validator("momentum")
    @classmethod
    def _two_momenta(cls, value: tuple[Momentum, Momentum]) -> tuple[Momentum, Momentum]:
        for one in value:
            try:
                momentum_over(one, 1)
            except UsageError as error:
                raise UsageError(f"teacher.momentum in the recipe: {error}") from None
        return value


class HeadSection(Strict):
    """A head of the student and of its teacher; ``kind`` names a file of ``heads/``, which adds its keys."""

    kind: str

    @property
    def embedding(self) -> int:
        """E, the width of the embedding."""
        raise NotImplementedError

    @property
    def prototypes(self) -> int | None:
        """K; None for a head that ends with its embedding."""
        return None

    @property
    def couples_batch(self) -> bool:
        """Whether an image's output depends on the rest of its batch, as with BatchNorm."""
        return False

    @property
    def lender(self) -> str | None:
        """Name of another head that shares layers with this one."""
        return None


class ObjectiveSection(Strict):
    """A term of the loss; its name in ``objectives`` is a file there, which adds its keys."""

    weight: float = Field(default=1.0, ge=0)
    head: str | None = "prototypes"  # one of the recipe's heads; null for an objective that needs none


class OptimSection(Strict):
    """The optimizer and its schedule; ``name`` is a file of ``optimizers/``, which adds its keys."""

    name: str
    lr: float = Field(default=5.0e-4, gt=0)  # per 256 images of the global batch
    final_lr: float = Field(default=1.0e-6, ge=0)
    weight_decay: Range = (0.04, 0.4)  # start and end of a cosine
    clip: float | None = Field(default=3.0, gt=0)  # gradient norm of EACH parameter
    warmup_epochs: Duration = 10.0
    layer_decay: float | None = Field(default=None, gt=0, le=1)  # of the lr, from each block to the one before it


class TrainSection(Strict):
    """The training loop."""

    epochs: float = Field(default=100, gt=0, le=1e6)
    batch_size: int = Field(default=256, gt=0, le=1_000_000)  # images per step, over processes and accumulation
    accumulate: int = Field(default=1, gt=0)  # micro-batches per step and process
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    checkpoint_blocks: bool = False  # keep only the blocks' inputs, and compute the rest again: less memory, more time
    seed: int = Field(default=0, ge=0)
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    keep_epochs: float = Field(default=0, ge=0)  # between encoders that are kept for good; 0: the last only
    max_nonfinite: int = Field(default=5, gt=0)  # skipped steps in a row before the run stops


class MonitorSection(Strict):
    """What is measured during training."""

    every_epochs: float = Field(default=5, ge=0)  # k-NN of train images that are not in its bank; 0 = never
    queries: int = Field(default=500, gt=0)
    bank: int = Field(default=4500, gt=0)
    log_steps: int = Field(default=10, gt=0)
    grace: Duration = "25%"  # no warnings of collapse before this
    gradient_steps: int = Field(default=500, ge=0)  # between measurements of each objective's gradient; 0: none
