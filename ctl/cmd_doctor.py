"""``tunnelctl doctor``."""

from ctl.passed_on import passed_on

command = passed_on(
    "doctor", "Check everything that a tunnel needs, at either end, and say what to do."
)
