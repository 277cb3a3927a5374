"""Differences as text: a sign where there is one."""

import pytest

from sslkit.statistics.signed import signed


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (-0.04, 1, "0.0"),
        (0.04, 1, "0.0"),
        (-0.0, 2, "0.00"),
        (-0.06, 1, "-0.1"),
        (0.06, 1, "+0.1"),
        (-0.004, 2, "0.00"),
        (-0.006, 2, "-0.01"),
        (12.34, 1, "+12.3"),
        (-0.4, 0, "0"),
    ],
)
def test_a_difference_that_rounds_to_zero_has_no_sign(value, decimals, text):
    assert signed(value, decimals) == text
