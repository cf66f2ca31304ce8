"""How many requests a second may go to an API: a token bucket."""

import trio

DEFAULT_RATE = 5.0
DEFAULT_BURST = 10
"""Requests a second, and at once after a pause: the defaults of Kubernetes' Go client."""


class RateLimiter:
    """Lets ``burst`` through at once and ``rate`` a second after that, first come first served.

    Args:
      rate: 0 means `DEFAULT_RATE`, less means no limit.
      burst: 0 means `DEFAULT_BURST`.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate or DEFAULT_RATE
        self._burst = float(burst or DEFAULT_BURST)
        self._tokens = self._burst
        self._filled_at: float | None = None
        self._turn = trio.Lock()  # fair; whoever is cancelled in its queue uses no token up

    async def wait(self) -> None:
        """Wait for one's turn. Cancelled, it takes nothing from those behind."""
        if self._rate < 0:
            return
        async with self._turn:
            self._fill()
            if self._tokens < 1:
                await trio.sleep((1 - self._tokens) / self._rate)
                self._fill()
            self._tokens -= 1

    def _fill(self) -> None:
        now = trio.current_time()
        since = now if self._filled_at is None else self._filled_at
        self._tokens = min(self._burst, self._tokens + (now - since) * self._rate)
        self._filled_at = now
