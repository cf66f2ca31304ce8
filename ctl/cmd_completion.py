"""``tunnelctl completion``."""

from ctl.completion import completion_command

command = completion_command("tunnelctl")
