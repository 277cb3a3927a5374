"""`sslkit export`: to come."""

from sslkit.errors import SslkitError
from stages.options import RunArgument


def export(run: RunArgument) -> None:
    """To come."""
    raise SslkitError("export is to come")
