"""`sslkit occlusion`: to come."""

from sslkit.errors import SslkitError
from stages.options import RunArgument


def occlusion(run: RunArgument) -> None:
    """To come."""
    raise SslkitError("occlusion is to come")
