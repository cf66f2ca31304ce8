"""The messages of ``hello.Greeter/SayHello``, built from a descriptor in code.

message HelloRequest { string name = 1; }
message HelloReply { string message = 1; }
"""

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

METHOD = "/hello.Greeter/SayHello"

_TEXT = FieldDescriptorProto.TYPE_STRING
_ONE = FieldDescriptorProto.LABEL_OPTIONAL


def _message(name: str, field: str) -> DescriptorProto:
    text = FieldDescriptorProto(name=field, number=1, type=_TEXT, label=_ONE)
    return DescriptorProto(name=name, field=[text])


def _load(name: str) -> type[Message]:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"hello.{name}"))


_POOL = DescriptorPool()
_POOL.AddSerializedFile(
    FileDescriptorProto(
        name="hello.proto",
        package="hello",
        syntax="proto3",
        message_type=[_message("HelloRequest", "name"), _message("HelloReply", "message")],
    ).SerializeToString()
)
_HelloRequest = _load("HelloRequest")
_HelloReply = _load("HelloReply")


def serialize_request(name: str) -> bytes:
    """A ``HelloRequest``."""
    return _HelloRequest(name=name).SerializeToString()


def parse_reply(data: bytes) -> str:
    """The message of a ``HelloReply``.

    Raises:
      ValueError: the octets are no such message.
    """
    try:
        reply = _HelloReply.FromString(data)
    except DecodeError as exc:
        raise ValueError(f"not a HelloReply: {exc}") from exc
    return str(getattr(reply, "message"))  # noqa: B009  the class is made at run time
