"""The options of stages that draw images: val's, or your own photos."""

from dataclasses import dataclass
from typing import Annotated

import typer

from stages.options.basic import MaxPixelsOption, PhotosOption


@dataclass(kw_only=True)
class ImageOptions:
    """Which images are drawn."""

    images: PhotosOption = None
    count: Annotated[
        int | None,
        typer.Option("--count", min=1, help="How many images are drawn; default: 8 of val, or all of --images."),
    ] = None
    max_pixels: MaxPixelsOption = None
