"""Plug-ins: the names of the files in a folder, listed without importing them, and one of them loaded by its name.

A file dropped into a plug-in folder such as ``masks/`` or ``data/sources/`` is available under its file name. It
defines exactly one public subclass of the folder's base class: the class in ``base.py`` that derives from ``ABC``
directly.
"""

import importlib
import inspect
import pkgutil
from abc import ABC
from collections.abc import Callable
from types import ModuleType
from typing import Any

from sslkit.errors import UsageError, did_you_mean


def names(package: str) -> list[str]:
    """Sorted names of the plug-ins in a package such as ``"sslkit.masks"``, without ``base`` and private modules.

    The folder is listed and nothing in it imported, so ``--help`` stays fast.
    """
    folders = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(folders) if m.name != "base" and not m.name.startswith("_"))


def load(package: str, name: str) -> type[Any]:
    """The class that the plug-in ``package.name`` defines: a subclass of the base class in ``package.base``.

    Raises:
        UsageError: no such plug-in (the nearest name is suggested), or it does not define exactly one class.
    """
    module_name = name.replace("-", "_")
    if module_name not in names(package):
        kind = package.rpartition(".")[2].removesuffix("s")  # a folder is named by what it holds, in the plural
        raise UsageError(f"no {kind} named '{name}': {did_you_mean(module_name, names(package))}")
    base = _the_one(importlib.import_module(f"{package}.base"), lambda found: ABC in found.__bases__, "abstract base")
    module = importlib.import_module(f"{package}.{module_name}")
    return _the_one(module, lambda found: issubclass(found, base), f"public {base.__name__}")


def load_all(package: str) -> dict[str, type[Any]]:
    """The class of every plug-in in a package, by its name."""
    return {name: load(package, name) for name in names(package)}


def _the_one(module: ModuleType, wanted: Callable[[type], bool], what: str) -> type[Any]:
    """The one public class of a module that passes a test."""
    found = [
        value
        for key, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not key.startswith("_") and wanted(value)
    ]
    if len(found) != 1:
        raise UsageError(f"{module.__name__} defines {len(found)} {what} classes; it must define exactly one")
    return found[0]
