"""What can go wrong, as codes that a control protocol can pass on."""


class NetnsError(Exception):
    """A refused or failed operation of the lab.

    ``code`` is stable: ``bad_request`` (the topology or name is wrong), ``exists`` (something of
    that name is there and not ours), ``forbidden`` (the kernel does not let us), ``not_found``,
    ``busy`` (another process works on this lab), ``failed`` (the rest). ``hint`` says what to do.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def to_map(self) -> dict[str, str]:
        """As the programs print it: ``{code, message, hint}``."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class TopologyError(NetnsError):
    """A topology that cannot be: ``where`` is the path of the offending value."""

    def __init__(self, where: str, message: str, hint: str = "") -> None:
        super().__init__("bad_request", f"{where}: {message}" if where else message, hint)
        self.where = where
        self.reason = message
