"""What all tests share: which of them may be skipped, and when a skip is a failure.

A test that needs something of the machine says so with `need(condition, reason)` and is skipped
where that is missing. With ``TUNNELD_REQUIRE=1`` in the environment, as CI sets it, every skip is
a failure, so that nothing drops out of the suite unnoticed. Only tests marked `root` or `plain` may
still be skipped there, when another user runs them: CI runs the suite as root and as a plain user.

Property tests run by the Hypothesis profile that ``HYPOTHESIS_PROFILE`` names: `fast`, the
default, tries the same few examples each time; `deep` tries many, others each time.
"""

import os
from collections.abc import Generator

import hypothesis
import pytest

hypothesis.settings.register_profile("fast", max_examples=60, derandomize=True, deadline=None)
hypothesis.settings.register_profile("deep", max_examples=3_000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

REQUIRE = os.environ.get("TUNNELD_REQUIRE", "") not in ("", "0")


def need(condition: object, reason: str) -> None:
    """Go on if ``condition`` holds, else skip: ``reason`` says what is missing, as a package name
    or a kernel feature."""
    if not condition:
        pytest.skip(reason)


def _of_other_user(item: pytest.Item) -> bool:
    """Whether another user has to run this test."""
    return item.get_closest_marker("plain" if os.geteuid() == 0 else "root") is not None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if _of_other_user(item):
        pytest.skip("needs a plain user" if os.geteuid() == 0 else "needs root")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if REQUIRE and not _of_other_user(item):
        _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module may skip itself as a whole, as `pytest.importorskip` does."""
    report = yield
    if REQUIRE:
        _fail_if_skipped(report)
    return report


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"TUNNELD_REQUIRE is set, and this was skipped: {reason}"
