"""No tunnel: the routers let the client straight through."""

from bench.targets.base import Target, destination
from bench.world import World


class Direct(Target):
    name = "direct"
    security = "none"

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return "TCP"

    def start(self, world: World) -> None:
        return

    def route(self, world: World) -> list[str]:
        return destination()
