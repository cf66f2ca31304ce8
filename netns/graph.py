"""A topology as a picture: text for a terminal, DOT for Graphviz. Pure."""

from netns.topology import Topology


def draw(topology: Topology) -> str:
    return ""


def draw_dot(topology: Topology) -> str:
    return ""
