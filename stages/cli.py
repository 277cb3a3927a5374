"""The ``sslkit`` command: finds the stages and names none. Torch is imported by the stage that needs it, never here."""

import gc
import os
import signal
import sys
from types import FrameType
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from sslkit.distributed.launch import adopt_slurm, forget_others, rank_and_size
from sslkit.errors import InterruptedRun, SslkitError, is_out_of_memory
from stages.contract.output import fit_any_terminal, say
from stages.contract.stage import Command, Stage, lines, load

# Newer typer carries its own copy of click; the base of all usage errors is found through typer's public one.
ClickException: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
APPEARANCE: Any = {"pretty_exceptions_enable": False, "rich_markup_mode": None}
INTERRUPTED, AGAIN = 128 + signal.SIGINT, "interrupted; rerun the same command to resume"


class Stages(TyperGroup):
    """The stages, each with its line in ``--help``."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        for name, line in lines().items():
            self.add_command(Later(name, short_help=line))


class Later(TyperCommand):
    """A command of which only name and line are known until it is called: its file is imported, and its parser built.

    To build all parsers for each command line would take longer than all the rest of ``--help``.
    """

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **settings: Any) -> Any:
        """The context of the command itself, for whoever parses, runs or completes a command line."""
        return parser(str(self.name)).make_context(info_name, args, parent=parent, **settings)


def build() -> typer.Typer:
    """The command line, from what the stages declare."""
    return typer.Typer(
        name="sslkit",
        cls=Stages,
        callback=lambda: None,  # makes it a group
        help="Self-supervised Vision Transformers, in stages that you chain: prepare, pretrain, extract, knn, ...",
        epilog="Add --debug to any command to see the traceback of an error.",
        no_args_is_help=True,
        **APPEARANCE,
    )


def parser(name: str) -> Any:
    """The parser of a stage's command line, a click command."""
    stage, app = load(name), typer.Typer(**APPEARANCE)
    if isinstance(stage.parses, typer.Typer):
        app.add_typer(stage.parses, name=name)
    else:
        app.command(name, cls=_own_options_first(stage.parses), short_help=stage.help)(stage.parses)
    return typer.main.get_group(app).commands[name]


def _own_options_first(parses: type) -> type[TyperCommand]:
    """The parser of a command whose ``--help`` lists the options of its class before those that it inherits."""
    own = vars(parses).get("__annotations__", {})

    class OwnOptionsFirst(TyperCommand):
        def get_params(self, ctx: Any) -> list[Any]:
            # Arguments keep their order: they are told apart by it.
            return sorted(super().get_params(ctx), key=lambda p: p.param_type_name != "argument" and p.name not in own)

    return OwnOptionsFirst


def main() -> None:
    """Run the command line; every failure is one line on standard error and an exit code."""
    # --debug may stand anywhere, so it is taken out before the subcommand's parser sees it.
    debug = "--debug" in sys.argv
    sys.argv[1:] = [word for word in sys.argv[1:] if word != "--debug"]
    # OpenMP's threads wait for each other busily. Where another process has one of the cores, the default of
    # milliseconds makes training many times slower; this many turns cost nothing on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # A short command imports, and what imports make stays: a search for garbage at every 700 objects finds nothing and
    # takes a tenth of the time.
    gc.set_threshold(50_000)
    fit_any_terminal()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _terminated)
    parsed: Any = None
    try:
        adopt_slurm(os.environ)
        parsed = build()(standalone_mode=False)
        code = parsed if isinstance(parsed, int) else 0  # an int where typer has answered itself, as for --help
        if isinstance(parsed, Command):
            from stages.contract.named_files import check_named  # what only commands need, --help does not wait for

            check_named(parsed)
            _execute(parsed)
        sys.stdout.flush()
        if code == INTERRUPTED:  # newer typer returns it for a KeyboardInterrupt, without a word
            code = _fail(AGAIN, INTERRUPTED, debug)
    except SslkitError as error:
        code = _fail(_advised(error), error.exit_code, debug)
    except (KeyboardInterrupt, typer.Abort):
        code = _fail(AGAIN, INTERRUPTED, debug)
    except ClickException as error:
        code = _misused(error, type(parsed), debug)
    except BrokenPipeError:
        # The reader of a pipe has seen enough. What Python still holds for it must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except OSError as error:
        code = _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1, debug)
    except Exception as error:
        code = _fail(_unforeseen(error), 1, debug)
    sys.exit(code)


def _execute(command: Command) -> None:
    """Execute a command. Work that processes cannot share is done by the first of them."""
    rank, size = rank_and_size(os.environ)
    stage = _stage_of(type(command))
    if size > 1 and stage is not None and not stage.shared:
        if rank:
            say(f"{stage.name} runs as one process: process {rank} of 0 to {size - 1} leaves it to process 0")
            return
        forget_others(os.environ)
    command.execute()


def _stage_of(parses: type) -> Stage | None:
    """The stage that declares a command: both are in the same file."""
    return getattr(sys.modules[parses.__module__], "STAGE", None)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise InterruptedRun("terminated; rerun the same command to resume", number)


def _advised(error: SslkitError) -> str:
    """An error, and where a file is damaged the command that makes it again."""
    from sslkit.artifacts import DamagedFile
    from stages.contract.integrity import remedy

    return f"{error}; {remedy(error.path)}" if isinstance(error, DamagedFile) else str(error)


def _unforeseen(error: Exception) -> str:
    """One line for an error that no stage expects: too little memory, or a fault of ours."""
    text = str(error)
    if is_out_of_memory(error):
        first = text.partition("\n")[0] or "no more is free"
        return f"out of memory: {first} (fewer --workers, a smaller batch or smaller images need less)"
    return f"{type(error).__name__}: {text} (a bug? --debug shows where)"


def _misused(error: Exception, command: type, debug: bool) -> int:
    """Report a usage error, found by the parser or, where it has parsed already, by the ``command``."""
    from stages.options import extra_words  # which --help does not wait for

    # Only format_message() names the option or argument that is wrong or missing.
    message = str(getattr(error, "format_message", lambda: error)()).replace("Value error, ", "")  # pydantic's prefix
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message, file=sys.stderr)
        return 2
    context = getattr(error, "ctx", None)
    stage = _stage_of(command)
    own = f"sslkit {stage.name}" if stage else ""
    path = context.command_path if context else own
    if context and (hint := extra_words.advice(message, sys.argv[2:], context.command.params)):
        message = f"{message}: {hint}"
    return _fail(message.rstrip(".") + (f" (see `{path} --help`)" if path else ""), 2, debug)


def _fail(message: str, code: int, debug: bool) -> int:
    if (debug or os.environ.get("SSLKIT_DEBUG")) and sys.exc_info()[0] is not None:
        import traceback

        traceback.print_exc()
    say(f"sslkit: {' '.join(message.split())}")
    return code


if __name__ == "__main__":
    main()
