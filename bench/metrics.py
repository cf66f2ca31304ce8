"""What is shown of the results: one row of the tables for each metric."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    run: str
    field: str
    title: str
    digits: int
    more_is_better: bool = True
    absolute: bool = False
    """A ratio of two of them says nothing."""

    @property
    def key(self) -> str:
        return f"{self.run}.{self.field}"


def _flow(way: str, word: str) -> list[Metric]:
    return [
        *(
            Metric(f"{way}-{n}", "MBps", f"{word}, {n} connection{'s' * (n > 1)}, MB/s", 0)
            for n in (1, 4, 32)
        ),
        Metric(f"{way}-32", "jain", f"{word}, 32 connections, fairness (Jain)", 3, absolute=True),
        *(
            Metric(
                f"{way}-{n}",
                "cpu_s_per_gb",
                f"{word}, {n} connection{'s' * (n > 1)}, CPU s/GB",
                2,
                more_is_better=False,
            )
            for n in (1, 32)
        ),
    ]


def _stall(way: str, word: str) -> list[Metric]:
    return [
        Metric(f"stall-{way}", "before_mbps", f"{word}: others before, MB/s", 0),
        Metric(f"stall-{way}", "stalled_mbps", f"{word}: others meanwhile, MB/s", 0),
        Metric(f"stall-{way}", "kept", f"{word}: meanwhile ÷ before", 2, absolute=True),
        Metric(
            f"stall-{way}",
            "stalled_new_ms",
            f"{word}: a new connection, ms (-1: never)",
            1,
            more_is_better=False,
            absolute=True,
        ),
    ]


def _beside(way: str, word: str) -> list[Metric]:
    title = f"64-byte echo beside {word} over 100 Mbit/s"
    return [
        Metric(f"slow-{way}", "ms.p50", f"{title}, p50 ms", 1, more_is_better=False),
        Metric(f"slow-{way}", "ms.p99", f"{title}, p99 ms", 1, more_is_better=False),
        Metric(f"slow-{way}", "transfer_MBps", f"{word} beside that, MB/s", 1),
    ]


METRICS: tuple[Metric, ...] = (
    *_flow("down", "download"),
    *_flow("up", "upload"),
    Metric("echo-1", "ms.p50", "64-byte echo, 1 connection, p50 ms", 3, more_is_better=False),
    Metric("echo-1", "ms.p99", "64-byte echo, 1 connection, p99 ms", 3, more_is_better=False),
    Metric("echo-64", "rt_per_s", "64-byte echo, 64 connections, round trips/s", 0),
    Metric("echo-64", "ms.p99", "64-byte echo, 64 connections, p99 ms", 2, more_is_better=False),
    Metric("echo-64", "cpu_us_each", "64-byte echo, 64 connections, CPU µs each", 1, False),
    *_beside("down", "a download"),
    *_beside("up", "an upload"),
    Metric("connect-16", "conn_per_s", "new connections/s, 16 at a time", 0),
    Metric("connect-16", "ms.p99", "new connections, 16 at a time, p99 ms", 1, False),
    Metric("connect-16", "failed", "new connections that failed", 0, False, absolute=True),
    Metric("idle", "server_kb_each", "memory per idle connection, server, kB", 1, False),
    Metric("idle", "agent_kb_each", "memory per idle connection, agent, kB", 1, False),
    Metric("idle", "kb_each", "memory per idle connection, both, kB", 1, False),
    Metric("idle", "mb_before", "memory before, both, MB", 1, False),
    *_stall("down", "a client stops reading"),
    *_stall("up", "an endpoint stops reading"),
    Metric("stall-memory", "growth_mb", "memory growth by one stalled reader, MB", 1, False, True),
)

BY_KEY = {metric.key: metric for metric in METRICS}
