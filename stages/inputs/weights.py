"""Weights named on a command line: a file, a folder, a run, or timm's own; what they hold and what they describe."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslkit.errors import SslkitError, UsageError
from stages.contract.absent import nearest_folder
from stages.contract.integrity import check_recorded
from stages.contract.layout import Run

if TYPE_CHECKING:
    from sslkit.recipe.schema import Recipe
    from sslkit.weights.checkpoint import Checkpoint
    from sslkit.weights.start import Parts, StartingWeights

TIMM = "timm:"
USUAL_SIZE = 224  # pixels; DINOv2's positions are for 518, which takes six times as long
IN_FOLDER = ("model.safetensors", "pytorch_model.bin", "encoder.safetensors", "encoder.pt")


@dataclass(frozen=True)
class NamedWeights:
    """Weights as the command line names them.

    Attributes:
        given: the words of the command line.
        files: what is read, by name: ``weights``, and ``encoder_info`` where an ``encoder.json`` describes them; empty
            for timm's own.
    """

    given: str
    files: Mapping[str, Path]

    @property
    def timm_name(self) -> str:
        """The model whose weights timm fetches; empty for files."""
        return self.given.removeprefix(TIMM) if self.given.startswith(TIMM) else ""

    def open(self) -> "Checkpoint":
        """Read them.

        Raises:
            SslkitError: they cannot be read or fetched.
        """
        from sslkit.weights.checkpoint import open_checkpoint

        return fetched(self.timm_name) if self.timm_name else open_checkpoint(self.files["weights"])

    def fingerprint(self, checkpoint: "Checkpoint") -> str:
        """SHA-256 of the file, or of the tensors in ``checkpoint`` where there is none."""
        from sslkit.files import sha256

        return sha256(self.files["weights"]) if self.files else _digest(checkpoint)


def find_weights(given: str, whole: bool = False, option: str = "--weights") -> NamedWeights:
    """The weights that an option names.

    Args:
        given: a file, a folder with weights, a run, or ``timm:NAME``.
        whole: take a run's training checkpoint, which has heads, rather than its encoder alone.
        option: for messages.

    Raises:
        SslkitError: there are none.
    """
    if given.startswith(TIMM):
        return NamedWeights(given, {})
    path = Path(given)
    if not path.is_dir():
        if not path.is_file():
            near = nearest_folder(path)
            hint = f"did you mean {near}?" if near else f"{option} takes a FILE, a RUN or timm:NAME"
            raise SslkitError(f"no checkpoint at {path}: {hint}")
        check_recorded(path)
        info = path.parent / "encoder.json" if path.name == "checkpoint.pt" else path.with_suffix(".json")
        return NamedWeights(given, {"weights": path, **({"encoder_info": info} if info.is_file() else {})})
    run = Run(path)
    if run.pretrain.is_dir():
        if not run.encoder.exists() or not run.encoder_info.exists():
            raise SslkitError(f"{option} {path} has no trained encoder yet{run.why_missing(run.encoder)}")
        weights = run.checkpoint if whole and run.checkpoint.exists() else run.encoder
        return NamedWeights(given, {"weights": run.need(weights), "encoder_info": run.need(run.encoder_info)})
    for name in IN_FOLDER:
        if (path / name).is_file():
            return NamedWeights(given, {"weights": path / name})
    raise SslkitError(f"{path} is no run with a trained encoder, and holds none of {', '.join(IN_FOLDER)}")


def fetched(name: str) -> "Checkpoint":
    """Timm's own weights of a model.

    Raises:
        UsageError: timm has no such model.
        SslkitError: the weights cannot be fetched.
    """
    import timm

    from sslkit.encoder.spec import is_vit
    from sslkit.weights.checkpoint import Checkpoint

    is_vit(name)  # names the nearest model where there is no such one
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client, its cache and timm all raise errors of their own
        why = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
        raise SslkitError(f"timm could not fetch weights of {name}: {why}; try --weights FILE") from error
    about = {"architecture": name, "pretrained_cfg": model.pretrained_cfg}
    return Checkpoint(f"{TIMM}{name}", model.state_dict(), about)


def described(checkpoint: "Checkpoint") -> tuple[dict[str, Any], list[str]]:
    """Arguments of ``EncoderSpec`` that a file describes, and remarks.

    The image size is the file's own where a run describes it; no more than 224 pixels otherwise.

    Raises:
        UsageError: nothing tells the architecture.
    """
    from sslkit.weights.read import spec_of

    spec, remarks = spec_of(checkpoint)
    if not spec:
        raise UsageError(
            f"{checkpoint.name} does not say which architecture it is of: name it, as in --arch vit_small_patch16_224"
        )
    size, patch = spec.get("image_size"), spec.get("patch_size") or 1
    if size and size > USUAL_SIZE and "spec" not in checkpoint.about:
        spec["image_size"] = USUAL_SIZE // patch * patch
        remarks = [*remarks, f"its positions are for {size} px, {spec['image_size']} are used (--image-size {size})"]
    return spec, remarks


@dataclass(frozen=True)
class Beginning:
    """What a training run starts from.

    Attributes:
        named: as the command line has it.
        start: the weights, in an encoder of the recipe's architecture.
        sha256: of the file, or of timm's tensors.
        remarks: on what was assumed.
    """

    named: NamedWeights
    start: "StartingWeights"
    sha256: str
    remarks: list[str]

    @property
    def inputs(self) -> dict[str, Path]:
        """The files that the training run depends on."""
        return {"weights": self.named.files["weights"]} if self.named.files else {}

    @property
    def config(self) -> dict[str, Any]:
        """What the training run depends on where there is no file."""
        return {} if self.named.files else {"weights": {"name": self.named.given, "sha256": self.sha256}}

    def provenance(self, parts: "Parts") -> dict[str, Any]:
        """What ``encoder.json`` says about the weights."""
        coverage = self.start.coverage
        return {
            "weights": self.named.given,
            "file": coverage.file,
            "sha256": self.sha256,
            "layout": coverage.layout,
            "containers": list(coverage.path),
            "keys": len(coverage.used),
            "taken": parts.taken,
            "left": parts.left,
            "fresh": parts.fresh,
            "remarks": [*coverage.remarks, *self.remarks],
        }

    def line(self, parts: "Parts") -> str:
        """The report in one line: what was taken, and what was not."""
        coverage = self.start.coverage
        coverage = replace(coverage, unused=[key for key in coverage.unused if key not in parts.keys])
        words = {"also taken": parts.taken, "not taken": parts.left, "randomly initialised": parts.fresh}
        more = [f"{title}: {', '.join(found)}" for title, found in words.items() if found]
        return "; ".join([f"starts from {coverage.line()}", *more, *self.remarks])


def begin_from(given: str, recipe: "Recipe") -> "tuple[Recipe, Beginning]":
    """Weights to train from, and the recipe with what it leaves open filled in from their description.

    Raises:
        SslkitError: the weights do not fit the recipe's encoder.
    """
    from sslkit.data.normalise import IMAGENET_MEAN
    from sslkit.encoder.encoder import Encoder
    from sslkit.weights.start import start_from

    weights = find_weights(given, whole=True)
    checkpoint = weights.open()
    recipe, remarks = _completed(recipe, checkpoint)
    try:
        start = start_from(checkpoint, Encoder.from_section(recipe.encoder.model_copy(update={"freeze": None})))
    except UsageError:
        raise
    except SslkitError as error:
        fixed = [f"encoder.{key}" for key in sorted(recipe.encoder.model_fields_set) if key != "drop_path"]
        hint = f"; the recipe sets {', '.join(fixed)}: --set encoder=null takes the file's own" if fixed else ""
        raise SslkitError(f"{error}{hint}") from error
    about = checkpoint.about.get("pretrained_cfg") or {}
    if tuple(about.get("mean", IMAGENET_MEAN)) != IMAGENET_MEAN:
        remarks = [*remarks, f"its images had mean {about['mean']}: training normalises by ImageNet's"]
    spec = checkpoint.about.get("spec") or {}
    if spec.get("mean") and recipe.views.mean is None and recipe.views.std is None:
        views = recipe.views.model_copy(update={key: tuple(spec[key]) for key in ("mean", "std") if spec.get(key)})
        recipe = recipe.model_copy(update={"views": views})
        remarks = [*remarks, "images are normalised as those that it was trained on"]
    return recipe, Beginning(weights, start, weights.fingerprint(checkpoint), remarks)


def _completed(recipe: "Recipe", checkpoint: "Checkpoint") -> "tuple[Recipe, list[str]]":
    section = recipe.encoder
    fixed = {key for key in section.model_fields_set if getattr(section, key) is not None}
    try:
        spec, remarks = described(checkpoint)
    except SslkitError:
        if "arch" in fixed:
            return recipe, []  # the recipe names it; whether the file fits is seen when it is read
        raise
    open_keys = {key: spec[key] for key in spec if key not in fixed and key in type(section).model_fields}
    open_keys.pop("drop_path", None)
    if "arch" in fixed and section.arch.split(".")[0] != spec["arch"]:
        open_keys = {key: value for key, value in open_keys.items() if key in ("patch_size", "norm_eps")}
    told = {**section.model_dump(exclude_unset=True), **{k: v for k, v in open_keys.items() if v is not None}}
    return recipe.model_copy(update={"encoder": section.model_copy(update=told)}), remarks


def _digest(checkpoint: "Checkpoint") -> str:
    """SHA-256 of tensors by name, for weights that come from no file of the user's."""
    import hashlib

    digest = hashlib.sha256()
    for key, value in sorted(checkpoint.tensors().items()):
        digest.update(key.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
