import pytest
import trio

from tunneld.kube.ratelimit import RateLimiter


async def pass_through(limiter: RateLimiter, times: list[float]) -> None:
    await limiter.wait()
    times.append(trio.current_time())


async def passing(limiter: RateLimiter, number: int) -> list[float]:
    times: list[float] = []
    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(pass_through, limiter, times)
    return times


async def test_the_burst_passes_at_once_and_the_rest_at_the_rate(autojump_clock: object) -> None:
    assert await passing(RateLimiter(2, 3), 6) == pytest.approx([0, 0, 0, 0.5, 1, 1.5])


async def test_zero_means_five_a_second_and_ten_at_once(autojump_clock: object) -> None:
    assert await passing(RateLimiter(0, 0), 12) == pytest.approx([0] * 10 + [0.2, 0.4])


async def test_a_pause_fills_no_more_than_the_burst(autojump_clock: object) -> None:
    limiter = RateLimiter(1, 2)
    await passing(limiter, 2)
    await trio.sleep(100)
    assert await passing(limiter, 3) == pytest.approx([100, 100, 101])


async def test_less_than_zero_means_no_limit(autojump_clock: object) -> None:
    assert await passing(RateLimiter(-1, 0), 50) == [0] * 50


async def test_whoever_gives_up_takes_nothing_from_those_behind(autojump_clock: object) -> None:
    limiter = RateLimiter(1, 1)
    await limiter.wait()
    times: list[float] = []
    async with trio.open_nursery() as nursery, trio.open_nursery() as impatient:
        impatient.start_soon(pass_through, limiter, times)
        impatient.start_soon(pass_through, limiter, times)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(pass_through, limiter, times)
        await trio.sleep(0.5)
        impatient.cancel_scope.cancel()
    assert times == pytest.approx([1])
