"""`tunneld doctor`: what stands between this host and a working tunnel.

Each module holds the checks of one group; a check is a generator of findings that blocks for a
bounded time and is run in a thread of its own (`tunneld.doctor.running`).
"""
