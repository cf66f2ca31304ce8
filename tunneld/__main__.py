"""`python -m tunneld`."""

from tunneld.cli import main

main()
