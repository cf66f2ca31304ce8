"""What stops a benchmark, or one target of it."""


class BenchError(Exception):
    """The message is for the person at the terminal."""
