"""The options that say which photos and masks are evaluated, and what the masks' values mean."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from stages.options.basic import MaxPixelsOption


@dataclass(kw_only=True)
class MaskedPhotoOptions:
    """Two folders, a dataset as it was published, or the prepared val; see ``stages.inputs.segmentation``."""

    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Photos, of any size.", show_default=False)
    ] = None
    masks: Annotated[
        Path | None, typer.Option("--masks", metavar="DIR", help="Masks named after the photos.", show_default=False)
    ] = None
    dataset: Annotated[
        Path | None,
        typer.Option(
            "--dataset",
            "--voc",
            metavar="DIR",
            help="Photos and masks of VOC, Cityscapes, ImageNet-S, CamVid, or of two folders such as images and masks.",
            show_default=False,
        ),
    ] = None
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="Split of --dataset; default: val.", show_default=False),
    ] = None
    listed: Annotated[
        Path | None,
        typer.Option("--list", metavar="FILE", help="Only the photos named in it, one a line.", show_default=False),
    ] = None
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="Number of photos, spread evenly over the set; default: all.")
    ] = None
    binary: Annotated[
        bool, typer.Option("--binary", help="Masks are binary despite other values: above half is the object.")
    ] = False
    void: Annotated[
        str | None,
        typer.Option(
            "--void",
            metavar="VALUES|none",
            help="Values or classes that are never counted; default: by the masks' kind, mostly 255.",
            show_default=False,
        ),
    ] = None
    background: Annotated[
        str | None,
        typer.Option(
            "--background",
            metavar="VALUE|none",
            help="Value or class that is no object; default: by the masks' kind, mostly 0.",
            show_default=False,
        ),
    ] = None
    palette: Annotated[
        Path | None,
        typer.Option(
            "--palette",
            metavar="FILE",
            help="Colours and names of the classes, or names, a class a line; default: a table next to the masks.",
            show_default=False,
        ),
    ] = None
    name: Annotated[
        str | None,
        typer.Option("--name", help="Write segment-NAME/; default: named after the folders.", show_default=False),
    ] = None
    max_pixels: MaxPixelsOption = None
