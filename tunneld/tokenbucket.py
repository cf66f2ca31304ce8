"""A rate with bursts: tokens that come back over time."""


class TokenBucket:
    """Has no clock: calls are told the time, in seconds of any clock that does not go back.

    Args:
      rate: tokens a second, more than 0.
      burst: how many there may be at once; there are so many in the beginning.
    """

    __slots__ = ("_at", "_left", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._left = burst
        self._at = now

    def left(self, now: float) -> float:
        """Tokens there are; negative where more were spent than there were."""
        if now > self._at:
            self._left = min(self.burst, self._left + (now - self._at) * self.rate)
            self._at = now
        return self._left

    def spend(self, tokens: float) -> None:
        """Take tokens, whether they are there or not; call `left` before."""
        self._left -= tokens

    def take(self, now: float) -> float:
        """Take one token if there is one.

        Returns:
          0, or seconds until there is one.
        """
        if self.left(now) >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self.rate

    def is_full(self, now: float) -> bool:
        """Whether it is as a new one would be."""
        return self.left(now) >= self.burst

    def change(self, rate: float, burst: float, now: float) -> None:
        """Go by another rate from now on."""
        self._left = min(self.left(now), burst)
        self.rate, self.burst = rate, burst
