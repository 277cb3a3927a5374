"""`sslkit segment`: to come."""

from sslkit.errors import SslkitError
from stages.options import RunArgument


def segment(run: RunArgument) -> None:
    """To come."""
    raise SslkitError("segment is to come")
