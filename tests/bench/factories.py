"""Results as a run gives them."""

from bench.results import Result


def result(target: str, run: str = "down-1", number: int = 0, **values: float) -> Result:
    return Result(number, target, run, values)


def rounds(target: str, *speeds: float) -> list[Result]:
    """One result of ``down-1`` for each speed."""
    return [result(target, number=number, MBps=speed) for number, speed in enumerate(speeds)]
