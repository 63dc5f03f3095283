"""Every kind of message, well-formed and malformed, derived from the declarations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_agentrun.wire.codec import MAX_FRAME, ProtocolError, encode_frame
from mcp_agentrun.wire.messages import Data, Message, MessageDecoder, OutputChunk, Ping, RunError, decode, encode
from mcp_agentrun.wire.records import Record, field
from tests.support.samples import as_json, message_classes, sample, variants

STRUCTURED = [cls for cls in message_classes() if not issubclass(cls, Data) and as_json(sample(cls))]
EMPTY = [cls for cls in message_classes() if not issubclass(cls, Data) and not as_json(sample(cls))]
RAW = [cls for cls in message_classes() if issubclass(cls, Data)]


def received(data: bytes) -> list[Message]:
    decoder = MessageDecoder()
    decoder.feed(data)
    return list(decoder)


@pytest.mark.parametrize("cls", message_classes())
def test_a_message_arrives_as_it_was_sent(cls: type[Message]) -> None:
    message = sample(cls)
    assert received(encode(message) * 2) == [message, message]


@pytest.mark.parametrize("cls", STRUCTURED)
def test_every_malformed_field_is_refused(cls: type[Message]) -> None:
    refused = 0
    for label, fields, is_good in variants(cls):
        payload = json.dumps(fields).encode()
        if is_good:
            assert as_json(decode((cls.kind, payload))) == fields, label
        else:
            refused += 1
            with pytest.raises(ProtocolError):
                pytest.fail(f"{label} was accepted: {decode((cls.kind, payload))}")
    assert refused > 20


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"[]", b"1", b"null", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 50_000, b"[" * MAX_FRAME),
        *(b"0" * MAX_FRAME, b'{"run":' + b"1" * (MAX_FRAME - 8) + b"}", b"\xff" * MAX_FRAME),
    ],
    ids=lambda payload: repr(payload[:10]),
)
def test_a_payload_that_is_not_an_object_is_refused(payload: bytes) -> None:
    for cls in STRUCTURED if len(payload) < 10 else STRUCTURED[:1]:
        with pytest.raises(ProtocolError, match=cls.__name__):
            decode((cls.kind, payload))


@pytest.mark.parametrize("cls", EMPTY)
def test_a_message_without_fields_has_no_payload(cls: type[Message]) -> None:
    with pytest.raises(ProtocolError, match="empty payload"):
        decode((cls.kind, b"{}"))


@pytest.mark.parametrize("cls", RAW)
def test_too_many_bytes_are_refused(cls: type[Message]) -> None:
    with pytest.raises(ProtocolError, match="at most"):
        decode((cls.kind, bytes(MAX_FRAME)))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ProtocolError, match="unknown message kind 254"):
        received(encode_frame(254, b""))


def test_too_large_a_message_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="exceeds"):
        encode(OutputChunk(data=bytes(MAX_FRAME + 1)))


def test_text_with_lone_surrogates_survives() -> None:
    error = RunError(type="\ud800", message="ü 日本", line=None, causes=(), full=())
    assert RunError.validated(json.loads(json.dumps(as_json(error)))) == error


class Example(Record):
    number: int
    text: str = "default"
    bounded: int = field(default=1, low=1, high=2)


def test_a_record_is_like_a_frozen_dataclass() -> None:
    example = Example(number=1)
    assert (example.number, example.text, example.bounded) == (1, "default", 1)
    assert example == Example(number=1, text="default") != Example(number=2)
    assert example != Ping()
    with pytest.raises(AttributeError, match="frozen"):
        example.number = 2  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError, match="frozen"):
        del example.number  # pyright: ignore[reportAttributeAccessIssue]
    for fields in ({}, {"number": 1, "other": 2}):
        given: dict[str, Any] = fields
        with pytest.raises(TypeError, match="Example"):
            Example(**given)


def test_a_record_does_not_show_its_values() -> None:
    """They may be code or credentials, and what is logged must not have them."""
    assert "secret" not in repr(Example(number=1, text="secret"))
