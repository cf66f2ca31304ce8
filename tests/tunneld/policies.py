"""Policies for tests that are about something else."""

from tunneld.config import DestinationPolicy, Policy

OPEN_SERVER = Policy(open=True)
OPEN_AGENT = DestinationPolicy(open=True)
