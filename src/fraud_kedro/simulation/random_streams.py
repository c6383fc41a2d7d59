"""Independent random numbers for each part of a table, all children of its seed.

A part that draws more or fewer numbers, because of a drift or a choice of
columns, leaves the others as they are.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Part(IntEnum):
    """What a stream of random numbers is for. A number that is changed changes every table."""

    SCHEDULE = 0
    DUPLICATES = 1
    BLOCK = 2
    HOURS = 3
    ZEROED = 4
    LABEL_DELAY = 5


def random_stream(seed: int, part: Part, *key: int) -> np.random.Generator:
    """Open a part's stream; the key tells its blocks or columns apart."""
    sequence = np.random.SeedSequence(seed, spawn_key=(part.value, *key))
    return np.random.Generator(np.random.SFC64(sequence))
