"""Reflection of services, in the protocol's two versions, which differ in their names alone."""

from collections.abc import Sequence

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from rankport.runtime.server.grpc.open.open_server import OpenServer

_OLD, _NEW = "grpc.reflection.v1alpha", "grpc.reflection.v1"
NAMES = (f"{_OLD}.ServerReflection", f"{_NEW}.ServerReflection")


def add_reflection(
    server: OpenServer,
    files: Sequence[FileDescriptor],
    renamed: Sequence[tuple[FileDescriptor, str]],
    names: Sequence[str],
) -> None:
    """Adds reflection of the services `names`, of `files`, and of files that are on the wire in another package."""
    own = reflection_pb2.DESCRIPTOR
    pool = DescriptorPool()
    for file in (*files, own):
        _add(pool, file)
    for file, package in (*renamed, (own, _NEW)):
        _add_renamed(pool, file, package)
    servicer = reflection.aio.ReflectionServicer((*names, *NAMES), pool=pool)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in NAMES:
        server.add_registered_method_handlers(name, {"ServerReflectionInfo": method})


def _add(pool: DescriptorPool, file: FileDescriptor) -> None:
    try:
        pool.FindFileByName(file.name)
    except KeyError:
        for dependency in file.dependencies:
            _add(pool, dependency)
        pool.AddSerializedFile(file.serialized_pb)


def _add_renamed(pool: DescriptorPool, file: FileDescriptor, package: str) -> None:
    """Adds a file as if it had another package: in a proto, types are named from the root on, with a dot before."""
    message = FileDescriptorProto.FromString(file.serialized_pb)
    old = message.package
    message.name = f"{package.replace('.', '/')}/{file.name.rsplit('/', 1)[-1]}"
    message.package = package
    for service in message.service:
        for method in service.method:
            method.input_type = _moved(method.input_type, old, package)
            method.output_type = _moved(method.output_type, old, package)
    types = list(message.message_type)
    while types:
        kind = types.pop()
        types += kind.nested_type
        for field in kind.field:
            if field.HasField("type_name"):
                field.type_name = _moved(field.type_name, old, package)
    pool.AddSerializedFile(message.SerializeToString())


def _moved(name: str, old: str, new: str) -> str:
    return name.replace(f".{old}.", f".{new}.", 1) if name.startswith(f".{old}.") else name
