"""How long to wait before trying again: exponential backoff with full jitter.

Full jitter (a uniform draw from nothing to the ceiling) spreads a crowd of agents that lost the
same server better than a small random addition to a fixed delay does, at the same mean load.
"""

import random
from collections.abc import Callable


class Backoff:
    """Delays that double from ``minimum`` to ``maximum`` seconds, each drawn anew below that."""

    def __init__(
        self,
        minimum: float,
        maximum: float,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._uniform = uniform
        self._ceiling = minimum

    def next_delay(self) -> float:
        """Seconds to wait now; the ceiling of the next one doubles."""
        ceiling = self._ceiling
        self._ceiling = min(ceiling * 2, self._maximum)
        return self._uniform(0, ceiling)

    def reset(self) -> None:
        """Start over. For use after a success that lasted, not after any success: what breaks
        at once after each start would otherwise be tried as fast as it can break."""
        self._ceiling = self._minimum
