"""``sslkit linear``: a linear probe whose setting is chosen on held-out train, and whose val accuracy is read once."""

from typing import Annotated, Optional

import typer

from stages.knn import probe_inputs
from stages.options import DataOption, Device, DeviceOption, ForceOption, JsonOption, RunArgument, SeedOption
from stages.output import show, table
from stages.run import Result, Run, transferred

STANDARDIZE_HELP = (
    "Centre and scale each feature by train's statistics; needed by MAE. Off in DINO's protocol (learning rates then "
    "depend on the encoder's scale: widen --lr)."
)


def linear(
    run: RunArgument,
    layers: Annotated[
        Optional[int],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
        typer.Option("--layers", min=1, help="Join the CLS of the last N blocks; 4 for DINO's ViT-S protocol."),
    ] = None,
    patch_mean: Annotated[
        bool, typer.Option("--patch-mean", help="Add the patch mean; DINO's ViT-B protocol.")
    ] = False,
    standardize: Annotated[bool, typer.Option("--standardize/--no-standardize", help=STANDARDIZE_HELP)] = True,
    lr: Annotated[
        Optional[list[float]],  # noqa: UP045
        typer.Option("--lr", help="Learning rate per 256 images; repeatable. Default: 0.003 to 0.3."),
    ] = None,
    weight_decay: Annotated[
        Optional[list[float]],  # noqa: UP045
        typer.Option("--weight-decay", help="Repeatable; every one with every --lr. Default: 0 to 0.01."),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over train.")] = 100,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images per step.")] = 1024,
    seed: SeedOption = 0,
    data: DataOption = None,
    device: DeviceOption = Device.auto,
    json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Train a linear classifier on frozen features: 20 settings at once, chosen on a held-out tenth of train."""
    here = transferred(run, data)
    arrays = [name for name, wanted in _arrays(layers, patch_mean).items() if wanted]
    config = {
        "layers": layers,
        "patch_mean": patch_mean,
        "standardize": standardize,
        "lr": lr or "sweep",
        "weight_decay": weight_decay or "sweep",
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
    }
    results = here.perform(
        "linear",
        lambda folder: _work(here, arrays, config, device.value),
        config=config,
        inputs=probe_inputs(here, arrays),
        how={"device": device.value},
        force=force,
    )
    chosen = results["chosen"]
    lines = [
        f"linear top-1 {results['top1']:.2f} %, top-5 {results['top5']:.2f} % (lr {chosen['lr']:g}, weight decay "
        f"{chosen['weight_decay']:g}, chosen by {results['held_out_top1']:.2f} % on held-out train)"
    ]
    rows = [[f"{row['lr']:g}", f"{row['weight_decay']:g}", row["held_out_top1"]] for row in results["sweep"]]
    show(results, [*lines, *table([["lr", "weight decay", "held-out top1"], *rows])], json)


def _arrays(layers: int | None, patch_mean: bool) -> dict[str, bool]:
    return {"cls": layers is None, "blocks": layers is not None, "patch_mean": patch_mean}


def _work(run: Run, arrays: list[str], config: Result, device: str) -> Result:
    import safetensors.torch

    from sslkit.device import pick_device
    from sslkit.files import atomic, write_json
    from sslkit.probes.features import open_features
    from sslkit.probes.linear import LEARNING_RATES, WEIGHT_DECAYS, Settings, describe
    from sslkit.probes.linear import linear as probe

    train, val = (
        open_features([run.feature(s, name) for name in arrays], run.feature(s, "labels"), config["layers"])
        for s in ("train", "val")
    )
    settings = Settings(
        learning_rates=LEARNING_RATES if config["lr"] == "sweep" else config["lr"],
        weight_decays=WEIGHT_DECAYS if config["weight_decay"] == "sweep" else config["weight_decay"],
        **{key: config[key] for key in ("epochs", "batch_size", "standardize", "seed")},
    )
    found = probe(train, val, settings, pick_device(device), progress=True)
    features = " + ".join("CLS of last {layers}".format(**config) if name == "blocks" else name for name in arrays)
    results = describe(found, settings, features, len(train), len(val))
    with atomic(run.linear_head) as handle:
        handle.write(safetensors.torch.save({"weight": found.weight, "bias": found.bias}))
    write_json(run.results("linear"), results)
    return results
