"""Differences as text."""


def signed(value: float, decimals: int = 1) -> str:
    """A difference with its sign, which one that rounds to zero does not have.

    >>> signed(0.34), signed(-0.36, 2), signed(-0.04), signed(0.04), signed(0)
    ('+0.3', '-0.36', '0.0', '0.0', '0.0')
    """
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text
