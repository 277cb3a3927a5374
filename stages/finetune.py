"""`sslkit finetune`: to come."""

from sslkit.errors import SslkitError
from stages.options import RunArgument


def finetune(run: RunArgument) -> None:
    """To come."""
    raise SslkitError("finetune is to come")
