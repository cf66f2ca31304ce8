"""Ours and the published konnectivity programs, together: real processes on loopback.

`peers/` is a Go module that pins konnectivity's server, agent and client library; `build` makes
programs of it. `programs` starts any server and any agent, ours or Go's, by the same flags, and
`cell` a server, an agent and a kind of client that work together. `clients` dials, whichever the
transport is; `targets` is what they dial; `exchange` speaks HTTP through the tunnel.

Two longer programs are run by hand: `weaknesses` measures what goes wrong in a stock pair, on both
pairs; `soak` loads all kinds of clients at once and looks for what is left of it.
"""
