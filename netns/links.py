"""Cables, addresses and routes."""

import errno
from typing import Any

from netns.netlink import told
from netns.shaping import shape_device
from netns.spaces import Space
from netns.topology import End, Link, Route


def make_link(link: Link, spaces: dict[str, Space]) -> None:
    """Make a veth pair with an end in each namespace, addressed, shaped and up.

    Both ends are born where they belong: none is ever in the caller's own namespace, so a kill
    leaves none there.

    Raises:
      NetnsError: the kernel refuses.
    """
    first, second = link.ends
    with told(
        f"make the link {link.title}",
        {errno.EOPNOTSUPP: "the kernel has no veth devices (CONFIG_VETH, module `veth`)"},
    ):
        spaces[first.namespace].netlink.link(
            "add",
            kind="veth",
            ifname=first.device,
            peer={"ifname": second.device, "net_ns_fd": spaces[second.namespace].fd},
        )
    for end in link.ends:
        netlink = spaces[end.namespace].netlink
        index = _set_up(end, netlink)
        if link.shape is not None:
            shape_device(netlink, index, end, link.shape)


def _set_up(end: End, netlink: Any) -> int:
    with told(f"set up {end.device} in {end.namespace} with {end.address}"):
        (index,) = netlink.link_lookup(ifname=end.device)
        netlink.addr(
            "add",
            index=index,
            address=str(end.address.ip),
            prefixlen=end.address.network.prefixlen,
            broadcast=str(end.address.network.broadcast_address),
        )
        netlink.link("set", index=index, state="up")
    return int(index)


def add_route(space: Space, route: Route) -> None:
    """Add a route; the link to its neighbour must be up.

    Raises:
      NetnsError: the kernel refuses.
    """
    with told(f"route {route.destination} via {route.via} in {space.full_name}"):
        space.netlink.route("add", dst=str(route.destination), gateway=str(route.via))
