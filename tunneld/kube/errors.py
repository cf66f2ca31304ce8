"""What can go wrong with a Kubernetes API. Mistakes of a configuration are `ConfigError`s."""


class KubeError(Exception):
    """A request to the API failed; the text is the API's own where it gave one."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status code; 0 if there was no answer, or none that could be understood."""
        self.reason = reason
        """Kubernetes' word for it, such as ``NotFound``; empty if unknown."""


class TokenRefusedError(Exception):
    """An agent's token is missing, not valid, or somebody else's; the text is upstream's."""
