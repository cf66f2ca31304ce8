"""Which dials an agent takes on, as far as that is a question of how many there are."""

from tunneld.config import AgentLimits
from tunneld.quota import Account, LimitedError, Quota, Refusals, Visit
from tunneld.session import buffers
from tunneld.telemetry import AgentTelemetry

_US = "this agent"
_SERVER = "server"
"""Who asks: an agent knows no clients."""


class Intake:
    """Counts connections and dials of all servers together."""

    def __init__(self, limits: AgentLimits, telemetry: AgentTelemetry) -> None:
        self._account = Account(_US, "", _quota(limits))
        self._refusals = Refusals()
        self._telemetry = telemetry

    def change(self, limits: AgentLimits) -> None:
        """Go by other limits from the next dial on; what there is stays."""
        self._account.change(_quota(limits))

    def admit(self, visit: Visit) -> None:
        """Count a dial.

        Raises:
          LimitedError: it is one too many.
        """
        buffers.check(_US)
        visit.enter(self._account)

    def refused(self, exc: LimitedError, dial: str) -> None:
        """Take note of a dial that was one too many."""
        self._telemetry.tunneld_refused_dials_total[exc.limit] += 1
        self._refusals.log(exc, dial, _SERVER)


def _quota(limits: AgentLimits) -> Quota:
    return Quota(limits.connections, limits.pending, limits.rate, limits.burst)
