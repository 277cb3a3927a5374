"""Errors for people: one line that says what is wrong, where, and what to do next."""

import difflib
from collections.abc import Iterable, Sequence

NO_MEMORY = ("t allocate memory", "not enough memory", "out of memory")  # torch's words, on several devices
MOST, FEW = 40, 5  # words that one message lists, and those of a longer list that it names


class SslkitError(Exception):
    """A failure that the user can fix. It is printed as one line; ``exit_code`` is that of the process."""

    exit_code = 1

    def __init__(self, message: object = ""):
        text = str(message)
        # torch raises what a loader's worker has raised anew, with the worker's traceback as the message.
        if text.startswith("Caught ") and "Original Traceback" in text:
            text = text.rpartition(f"{type(self).__name__}: ")[2].strip()
        super().__init__(text)


class UsageError(SslkitError):
    """The command or the recipe is wrong; found before any work begins."""

    exit_code = 2


class InterruptedRun(SslkitError):
    """A signal ended the stage, after it saved what can be kept."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is Python's or torch's way to say that the host or the device has no memory left."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is close to one that is not; empty if none is.

    >>> nearest("rato", ["ratio", "order"]), nearest("zzz", ["ratio", "order"])
    ('ratio', '')
    """
    return next(iter(difflib.get_close_matches(word, sorted(known), n=1)), "")


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """A hint that names the nearest known word, or lists all of them, or a few near ones of very many.

    >>> did_you_mean("rato", ["ratio", "order"], "mask.")
    "did you mean 'mask.ratio'?"
    >>> did_you_mean("zzz", ["ratio", "order"])
    'known: order, ratio'
    """
    known = sorted(known)
    if close := nearest(word, known):
        return f"did you mean '{prefix}{close}'?"
    if len(known) > MOST:
        near = difflib.get_close_matches(word, known, n=FEW, cutoff=0.0)
        return f"none is near; of {len(known)} known, perhaps {', '.join(near)}"
    return f"known: {', '.join(known)}"


def number_of(count: float, what: str, verb: str = "") -> str:
    """A number with its noun, the first word of ``what``, and the verb that goes with it.

    >>> number_of(1, "image of val", "has"), number_of(0, "class"), number_of(2, "query", "is")
    ('1 image of val has', '0 classes', '2 queries are')
    >>> number_of(1281167, "image"), number_of(0.5, "epoch")
    ('1281167 images', '0.5 epochs')
    """
    if count != 1:
        verb = {"is": "are", "has": "have"}.get(verb, verb.removesuffix("s"))
    shown = str(count) if isinstance(count, int) else f"{count:g}"  # which would round a million
    return f"{shown} {noun_for(count, what)} {verb}".rstrip()


def noun_for(count: float, what: str) -> str:
    """``what`` in the number that goes with a count: its first word is the noun.

    >>> noun_for(1, "image of val"), noun_for(2, "image of val")
    ('image of val', 'images of val')
    """
    noun, space, more = what.partition(" ")
    if count != 1:
        noun = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith("ss") else "s")
    return f"{noun}{space}{more}"


def named(names: Sequence[str], most: int = 3) -> str:
    """The first names of a list, and how many more there are.

    >>> named(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def some_of(names: Sequence[str], most: int) -> str:
    """The first names of a list, and three dots if there are more.

    >>> some_of(["a", "b"], 2), some_of(["a", "b", "c"], 2)
    ('a, b', 'a, b, ...')
    """
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
