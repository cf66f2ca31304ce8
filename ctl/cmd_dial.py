"""``tunnelctl dial``: a byte pipe on standard input and output."""

import click

from ctl.address import Address
from ctl.app import App
from ctl.ends import FileSource, TunnelEnd, open_sink
from ctl.options import address, dial_options
from ctl.pump import Pump


@click.command("dial")
@click.argument("destination", type=address, metavar="HOST:PORT")
@dial_options
@click.pass_obj
def command(app: App, destination: Address) -> None:
    """Connect standard input and output with an endpoint.

    The end of the input is passed on, and the answer still awaited; the run ends with the
    endpoint's own end. Fits ssh: -o ProxyCommand='tunnelctl dial %h:%p'
    """
    with app.dialer() as dialer:
        dialled = dialer.dial(destination)
        with dialled.sock:
            Pump(TunnelEnd(dialled.sock), FileSource(0), open_sink(1)).run_until_answered()
