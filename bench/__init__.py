"""Speed, measured: ours beside its peers, one revision beside another, and how cost grows.

Start it by `sh dev bench`; what it measures and how to read it stands in docs/benchmarks.md.
`framing.py` and `packet.py` are microbenchmarks, each a program of its own.
"""
