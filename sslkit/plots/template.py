"""Pages rendered from ``templates/``, each a single file with its styles and scripts."""

from importlib.resources import files
from typing import Any


def tight(words: str) -> str:
    r"""Words in which no line breaks between a number and its ``%``.

    >>> tight("60 % of the mass") == "60\u00a0% of the mass"
    True
    """
    return words.replace(" %", "\u00a0%")


def render_template(name: str, **values: Any) -> str:
    """A page of ``templates/`` as text; all values must be given, and are escaped unless they are ``Markup``."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("sslkit.plots") / "templates"
    environment = Environment(
        loader=FunctionLoader(lambda wanted: (folder / wanted).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tight"] = tight
    return environment.get_template(name).render(**values)
