"""Names of the modules in a folder, without importing them; one of them loaded by its name.

A file dropped into ``masks/``, ``objectives/``, ``methods/`` or ``data/sources/`` is available under its
file name. It holds exactly one public subclass of the folder's base class.
"""

import importlib
import inspect
import pkgutil
from typing import TypeVar

from sslkit.errors import UsageError, did_you_mean

T = TypeVar("T")


def names(package: str) -> list[str]:
    """Sorted names in a package such as ``"sslkit.masks"``; ``base`` and private modules are no names.

    Only the folder is listed: nothing in it is imported, so ``--help`` stays fast.
    """
    folders = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(folders) if m.name != "base" and not m.name.startswith("_"))


def load(package: str, name: str, base: type[T]) -> type[T]:
    """The subclass of ``base`` that the module ``package.name`` defines.

    Raises:
        UsageError: no such module (the nearest name is suggested), or it does not define exactly one class.
    """
    module_name = name.replace("-", "_")
    if module_name not in names(package):
        raise UsageError(f"no {package.rsplit('.', 1)[1]} named '{name}': {did_you_mean(module_name, names(package))}")
    module = importlib.import_module(f"{package}.{module_name}")
    found = [
        value
        for key, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and not key.startswith("_")
    ]
    if len(found) != 1:
        raise UsageError(
            f"{package}.{module_name} defines {len(found)} public {base.__name__} classes; it needs exactly one"
        )
    return found[0]
