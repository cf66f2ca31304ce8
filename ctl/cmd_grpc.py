"""``tunnelctl grpc``: one call of ``hello.Greeter/SayHello`` through the tunnel."""

import click

from ctl.address import Address
from ctl.app import App
from ctl.messages import ControlError
from ctl.options import address, dial_options
from ctl.output import print_line


@click.command("grpc")
@click.argument("destination", type=address, metavar="HOST:PORT")
@click.option("--name", default="demo", show_default=True, help="Whom to greet.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="For the call, once connected.",
)
@dial_options
@click.pass_obj
def command(app: App, destination: Address, name: str, timeout: float) -> None:
    """Call hello.Greeter/SayHello of a gRPC endpoint and print its greeting."""
    from google.protobuf.message import DecodeError

    from ctl.hello import SAY_HELLO, HelloReply, HelloRequest
    from ctl.unary_call import UnaryCall

    try:
        request = HelloRequest(name=name).SerializeToString()
    except ValueError as exc:  # not UTF-8
        raise click.BadParameter(str(exc), param_hint="'--name'") from exc
    with app.dialer() as dialer, dialer.dial(destination).sock as sock:
        reply = UnaryCall(sock, str(destination), timeout).run(SAY_HELLO, request)
    try:
        print_line(HelloReply.FromString(reply).message)
    except DecodeError as exc:
        raise ControlError(
            "failed", f"the gRPC call failed: its reply is no HelloReply: {exc}"
        ) from exc
