"""Rules of what a token store keeps: answers of which encoders, and of which of their sides."""

from typing import TypeVar

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import ModelDescription, Side
from rankport.runtime.jobs.row_encoder import Encoder

EncoderT = TypeVar("EncoderT", bound=Encoder)


def storable(encoder: EncoderT) -> EncoderT:
    """Gives the encoder back. Raises InvalidRequest for one of weights, most of them 0, which no store keeps."""
    about = encoder.describe()
    if about.embedding_form:
        raise InvalidRequest(
            f"{about.name!r} makes weights of a {about.embedding_form}, which no store keeps: give a dataset "
            "(--dataset FOLDER) in its place"
        )
    return encoder


def require_side(about: ModelDescription, side: Side | None) -> None:
    """Raises InvalidRequest for a side of an encoder that has only one, and as `require_stored`."""
    if side is None:
        return
    if about.kind != "two-tower":
        raise InvalidRequest(
            f"side is {side!r}, and {about.name!r} of kind {about.kind} has one side: leave it out"
        )
    require_stored(about, side)


def require_stored(about: ModelDescription, side: Side) -> None:
    """Raises InvalidRequest for queries of late interaction, which no store keeps."""
    if side == "query" and about.embedding_tokens > 1:
        raise InvalidRequest(
            f"side is {side!r}, and {about.name!r} is of late interaction, of which items alone are stored: give a "
            "request the query itself"
        )
