"""Everything that goes wrong in a network, for minutes, under 200 live connections.

    python -m tests.e2e.turmoil --minutes 15 --seed 1 [--json FILE] [--report FILE]

`site` builds public, NAT and private network with a server and three agent processes, and runs
`clients` at one end and `endpoint` at the other; `faults` lists what happens to them; `trial` draws
from that list by the seed, and looks at what came of each; `report` tells it.
"""
