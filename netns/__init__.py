"""The network lab: topologies of Linux network namespaces, built with netlink alone."""
