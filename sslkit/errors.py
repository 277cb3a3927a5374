"""Errors that a person reads: one line that says what is wrong, where, and what to try."""

import difflib
from collections.abc import Iterable

MOST = 40  # words of a list in one message


class SslkitError(Exception):
    """Something failed that the user can mend. Printed as one line; ``exit_code`` is the process's."""

    exit_code = 1


class UsageError(SslkitError):
    """The command or the recipe is wrong, found before any work began."""

    exit_code = 2


class InterruptedRun(SslkitError):
    """A signal ended the stage after what can be kept was kept."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or lists all of them, if they are not too many for a line.

    >>> did_you_mean("rato", ["ratio", "order"])
    "did you mean 'ratio'?"
    >>> did_you_mean("zzz", ["ratio", "order"])
    'known: order, ratio'
    """
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    more = f", and {len(known) - MOST} more" if len(known) > MOST else ""
    return f"known: {', '.join(known[:MOST])}{more}"
