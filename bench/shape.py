"""`python -m bench.shape DEVICE RATE`: bound what a device of this network namespace sends, in bits
a second, as a topology's `shape` does; 0 lifts the bound."""

import sys

from netns.netlink import open_netlink
from netns.shaping import tbf_parameters


def shape(device: str, rate: int) -> None:
    with open_netlink() as netlink:
        (index,) = netlink.link_lookup(ifname=device)
        if rate:
            netlink.tc("replace", "tbf", index, handle=0x10000, **tbf_parameters(rate))
        else:
            netlink.tc("del", index=index, root=True)


if __name__ == "__main__":
    shape(sys.argv[1], int(sys.argv[2]))
