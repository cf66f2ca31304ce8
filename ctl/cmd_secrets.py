"""``tunnelctl secrets``."""

from ctl.passed_on import passed_on

command = passed_on(
    "secrets", "Make, show and remove hashed secrets of agents and clients (add, list, remove)."
)
