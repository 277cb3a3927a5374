"""The command line: one line per stage. Torch is imported by the stage that needs it, never here."""

import os
import signal
import sys
from types import FrameType

import typer

from sslkit.errors import InterruptedRun, SslkitError
from stages import (
    attn_viz,
    compare,
    curves,
    embed,
    export,
    extract,
    finetune,
    health,
    knn,
    linear,
    neighbours,
    occlusion,
    prepare,
    pretrain,
    preview,
    recipes,
    reconstruct,
    report,
    segment,
    status,
)

# Newer typer carries its own copy of click; the base of all usage errors is found through typer's public one.
ClickException: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
INTERRUPTED, AGAIN = 128 + signal.SIGINT, "interrupted; the same command goes on"

app = typer.Typer(
    name="sslkit",
    help="Self-supervised Vision Transformers in discrete stages: prepare, pretrain, extract, knn, linear, attn-viz.",
    epilog="Any error shows its traceback with --debug.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("prepare", short_help="Pack images into WebDataset shards.")(prepare.prepare)
app.command("pretrain", short_help="Train an encoder by a recipe.")(pretrain.pretrain)
app.command("extract", short_help="Write the features of train and val.")(extract.extract)
app.command("knn", short_help="Judge features by nearest neighbours.")(knn.knn)
app.command("linear", short_help="Judge features by a linear classifier.")(linear.linear)
app.command("attn-viz", short_help="Draw attention maps, and what masks hide.")(attn_viz.attn_viz)
app.command("finetune", short_help="Judge the encoder by training all of it.")(finetune.finetune)
app.command("segment", short_help="Judge attention and patches by object masks.")(segment.segment)
app.command("occlusion", short_help="Judge the linear probe with patches missing.")(occlusion.occlusion)
app.command("health", short_help="Measure rank, spread and heads, without labels.")(health.health)
app.command("reconstruct", short_help="Draw what an MAE paints.")(reconstruct.reconstruct)
app.command("neighbours", short_help="Draw images beside their nearest ones.")(neighbours.neighbours)
app.command("embed", short_help="Draw a map of the features: PCA, t-SNE, UMAP.")(embed.embed)
app.command("preview", short_help="Draw what a recipe's model will see.")(preview.preview)
app.command("compare", short_help="Set runs side by side, with intervals.")(compare.compare)
app.command("curves", short_help="Draw what runs logged.")(curves.curves)
app.command("report", short_help="Write one HTML page of it all.")(report.report)
app.command("export", short_help="Write the encoder for another library.")(export.export)
app.command("status", short_help="Show what was done and what is stale.")(status.status)
app.add_typer(recipes.app, name="recipes")


def _terminated(number: int, frame: FrameType | None) -> None:
    raise InterruptedRun("terminated; the same command goes on", number)


def main() -> None:
    """Run the command line; every failure is one line on standard error and an exit code."""
    # --debug may stand anywhere, so it is taken out before the subcommand's parser sees it.
    debug = "--debug" in sys.argv
    sys.argv[1:] = [word for word in sys.argv[1:] if word != "--debug"]
    # OpenMP's threads wait for each other busily. Where another process has one of the cores, the default of
    # milliseconds makes a training many times slower; this many turns cost nothing on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # newer typer makes it of a KeyboardInterrupt, without a word
            code = _fail(AGAIN, INTERRUPTED, debug)
    except SslkitError as error:
        code = _fail(str(error), error.exit_code, debug)
    except (KeyboardInterrupt, typer.Abort):
        code = _fail(AGAIN, INTERRUPTED, debug)
    except ClickException as error:
        code = _misused(error, debug)
    except BrokenPipeError:
        # The reader of a pipe has seen enough. What Python still holds for it must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except OSError as error:
        code = _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1, debug)
    except Exception as error:
        code = _fail(f"{type(error).__name__}: {error} (a bug? --debug shows where)", 1, debug)
    sys.exit(code if isinstance(code, int) else 0)


def _misused(error: Exception, debug: bool) -> int:
    # Only format_message() names the option or argument that is wrong or missing.
    message = str(getattr(error, "format_message", lambda: error)())
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message, file=sys.stderr)
        return 2
    context = getattr(error, "ctx", None)
    advice = f" (see `{context.command_path} --help`)" if context is not None else ""
    return _fail(message.rstrip(".") + advice, 2, debug)


def _fail(message: str, code: int, debug: bool) -> int:
    if (debug or os.environ.get("SSLKIT_DEBUG")) and sys.exc_info()[0] is not None:
        import traceback

        traceback.print_exc()
    print(f"sslkit: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
