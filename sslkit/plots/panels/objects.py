"""Where masks fall, on datasets whose objects are known."""

from sslkit.plots.panels.base import Panel

PANELS = [
    Panel("masked_on_object", "masked tokens on the object (share)", "Masked tokens on the object"),
    Panel("tokens_on_object", "all tokens on the object (share)", "All tokens on the object"),
]
