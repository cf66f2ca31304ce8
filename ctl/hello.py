"""Messages of the ``hello`` protobuf package, from a descriptor in code: no generated file.

syntax = "proto3";
package hello;
service Greeter { rpc SayHello (HelloRequest) returns (HelloReply); }
message HelloRequest { string name = 1; }
message HelloReply { string message = 1; }

The greeter endpoint and `tunnelctl grpc` both speak it.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SAY_HELLO = "/hello.Greeter/SayHello"
"""The ``:path`` of the one method."""


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="tunneld/hello.proto", package="hello", syntax="proto3"
    )
    for message, field in (("HelloRequest", "name"), ("HelloReply", "message")):
        file.message_type.add(name=message).field.add(
            name=field,
            number=1,
            type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
            label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        )
    return file


# A pool of our own: in the default one the names could clash with a program's generated messages.
_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())

HelloRequest: Any = message_factory.GetMessageClass(
    _pool.FindMessageTypeByName("hello.HelloRequest")
)
HelloReply: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName("hello.HelloReply"))
