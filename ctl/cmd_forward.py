"""``tunnelctl forward``: a local port that leads to an endpoint."""

import sys

import click

from ctl.address import Address, AddressError, parse_address, parse_port
from ctl.app import App
from ctl.options import address, dial_options, output_option
from ctl.output import print_json, print_line, print_note

_LOOPBACK = "127.0.0.1"


def _local(text: str) -> Address:
    """``PORT`` on loopback, or ``HOST:PORT``; port 0 is any free one."""
    try:
        if ":" in text:
            return parse_address(text, lowest_port=0)
        return Address(_LOOPBACK, parse_port(text, lowest=0))
    except AddressError as exc:
        raise click.BadParameter(f"{exc}; or a port alone, as in 8080") from exc


@click.command("forward")
@click.argument("local", type=_local, metavar="[LOCAL:]PORT")
@click.argument("destination", type=address, metavar="HOST:PORT")
@output_option
@dial_options
@click.pass_obj
def command(app: App, local: Address, destination: Address) -> None:
    """Listen on a local port and carry its connections to an endpoint, until Ctrl-C.

    LOCAL is 127.0.0.1 unless given; port 0 chooses a free one. The address is printed once it
    accepts connections.
    """
    from ctl.forwarder import Forwarder, address_of, listen

    with app.dialer() as dialer, listen(local) as listener:
        listening = str(address_of(listener))
        if app.as_json:
            print_json({"listening": listening, "destination": str(destination)})
        else:
            print_line(f"listening on {listening}")
        sys.stdout.flush()
        Forwarder(dialer, destination, print_note).serve(listener)
