"""`sslkit reconstruct`: to come."""

from sslkit.errors import SslkitError
from stages.options import RunArgument


def reconstruct(run: RunArgument) -> None:
    """To come."""
    raise SslkitError("reconstruct is to come")
