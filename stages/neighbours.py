"""`sslkit neighbours`: to come."""

from sslkit.errors import SslkitError
from stages.options import RunArgument


def neighbours(run: RunArgument) -> None:
    """To come."""
    raise SslkitError("neighbours is to come")
