"""No tunnel: the routers let the client straight through."""

from bench.lab import PRIVATE_ADDRESS
from bench.targets.base import Target
from bench.world import ENDPOINT_PORT, World


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
        return ["--via", "raw", "--dest", f"{PRIVATE_ADDRESS}:{{s}}", "--base", str(ENDPOINT_PORT)]
