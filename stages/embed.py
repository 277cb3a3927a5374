"""`sslkit embed`: to come."""

from sslkit.errors import SslkitError
from stages.options import RunArgument


def embed(run: RunArgument) -> None:
    """To come."""
    raise SslkitError("embed is to come")
