"""`sslkit report`: to come."""

from sslkit.errors import SslkitError
from stages.options import RunArgument


def report(run: RunArgument) -> None:
    """To come."""
    raise SslkitError("report is to come")
