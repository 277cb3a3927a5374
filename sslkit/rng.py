"""Random numbers as a pure function of integer keys.

Philox is a counter-based generator (Salmon et al., SC 2011): the key and the counter's upper words say *which*
numbers, so the same (seed, stream, position) gives the same draw in any process, worker or resumed run.
"""

import zlib

import numpy as np


def generator(seed: int, stream: str, *position: int) -> np.random.Generator:
    """A generator for one named stream at up to three integer positions, for instance (epoch, sample).

    Args:
        seed: the run's seed, a non-negative integer.
        stream: a name that keeps unrelated draws apart ("views", "order", ...).
        position: at most 3 non-negative integers; missing ones count as 0.

    >>> float(generator(0, "views", 3, 7).random()) == float(generator(0, "views", 3, 7).random())
    True
    """
    if len(position) > 3:
        raise ValueError("a stream has at most three positions")
    key = np.array([seed, zlib.crc32(stream.encode())], dtype=np.uint64)
    # The lowest counter word advances with every block drawn; the position sits above it.
    counter = np.array([0, *position, *([0] * (3 - len(position)))], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
