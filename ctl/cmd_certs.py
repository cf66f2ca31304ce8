"""``tunnelctl certs``."""

from ctl.passed_on import passed_on

command = passed_on(
    "certs", "Make, show and list certificates (init, issue, renew, revoke, list, …)."
)
