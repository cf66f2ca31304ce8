"""A grpcio client of `grpcio_server.py`: ADDRESS."""

import sys

import grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    hello = channel.unary_unary("/hello.Greeter/SayHello")
    print(hello(b"\x0a\x06grpcio", timeout=20)[2:].decode())
    counted = list(channel.unary_stream("/hello.Greeter/Count")(b"", timeout=20))
    assert counted == [number.to_bytes(4, "big") * 256 for number in range(1000)]
    print(len(counted), "streamed")
