"""`sslkit health`: to come."""

from sslkit.errors import SslkitError
from stages.options import RunArgument


def health(run: RunArgument) -> None:
    """To come."""
    raise SslkitError("health is to come")
