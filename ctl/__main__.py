"""``python -m ctl`` is tunnelctl."""

from ctl.cli import main

main()
