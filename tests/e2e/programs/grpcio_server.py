"""A grpcio server for hello.Greeter, one unary and one streaming method: ADDRESS."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc


def say_hello(request: bytes, context: grpc.ServicerContext) -> bytes:
    reply = b"Hello " + request[2:] + b"!"
    return b"\x0a" + bytes([len(reply)]) + reply


def count(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    for number in range(1000):
        yield number.to_bytes(4, "big") * 256


handlers = {
    "SayHello": grpc.unary_unary_rpc_method_handler(say_hello),
    "Count": grpc.unary_stream_rpc_method_handler(count),
}
server = grpc.server(ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("hello.Greeter", handlers),))
server.add_insecure_port(sys.argv[1])
server.start()
print("ready", flush=True)
server.wait_for_termination()
