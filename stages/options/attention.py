"""Options of ``attn-viz`` for more than the last layer's attention from CLS."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(kw_only=True)
class AttentionOptions:
    """Layers, tokens, rollout, a timeline, and a second encoder."""

    layers: Annotated[
        str | None, typer.Option("--layers", metavar="N,N|all", help="Layers, counted from 1; default: the last.")
    ] = None
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--query",
            metavar="cls|X,Y",
            help="Token whose attention is drawn: CLS, or the patch at shares of width and height, 0 to 1; repeatable.",
        ),
    ] = None
    rollout: Annotated[
        bool, typer.Option("--rollout", help="Also draw rollout through all layers (arXiv:2005.00928).")
    ] = False
    timeline: Annotated[
        bool,
        typer.Option("--timeline", help="Also draw the maps of the kept encoders; with --masks, AttMask's masks too."),
    ] = False
    every: Annotated[
        int | None,
        typer.Option("--every", min=1, help="With --timeline: every N-th kept encoder, counted back from the last."),
    ] = None
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="RUN", help="Compare with another run's encoder; heads are matched."),
    ] = None
