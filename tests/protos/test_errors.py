"""One table of errors and statuses: what the server raises is what the client raises."""

import grpc
import pytest

from rankport.protos import errors


def subclasses(cls: type[Exception]) -> set[type[Exception]]:
    return {cls}.union(*(subclasses(sub) for sub in cls.__subclasses__()))


def test_every_error_has_a_status() -> None:
    assert subclasses(errors.RankportError) - {errors.RankportError} == set(errors.STATUS_CODES)


@pytest.mark.parametrize("cls", errors.STATUS_CODES, ids=lambda cls: cls.__name__)
def test_a_named_error_crosses_the_wire_as_itself(cls: type[errors.RankportError]) -> None:
    code = errors.status_code(cls("why"))
    received = errors.from_status(code, "why", cls.__name__)
    assert type(received) is cls
    assert str(received) == "why"


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_a_status_without_a_name_still_becomes_an_error_of_that_status(code: grpc.StatusCode) -> None:
    received = errors.from_status(code, "why", None)
    assert errors.status_code(received) == (
        code if code in errors.STATUS_CODES.values() else grpc.StatusCode.INTERNAL
    )


def test_anything_else_is_internal() -> None:
    assert errors.status_code(ValueError("bug")) is grpc.StatusCode.INTERNAL


def test_every_error_has_a_status_of_http() -> None:
    assert set(errors.HTTP_STATUSES) == set(errors.STATUS_CODES)
    assert errors.http_status(ValueError("bug")) == 500
    assert errors.http_status(errors.Overloaded("full")) == 429
