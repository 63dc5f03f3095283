"""The frame codec, pure."""

from __future__ import annotations

import pytest

from mcp_agentrun.wire.codec import MAX_FRAME, FrameDecoder, FrameError, Kind, decode_json, encode, encode_json


def decoded(data: bytes, step: int) -> list[tuple[Kind, bytes]]:
    decoder = FrameDecoder()
    frames: list[tuple[Kind, bytes]] = []
    for start in range(0, len(data), step):
        decoder.feed(data[start : start + step])
        frames += decoder
    assert decoder.pending == 0
    return frames


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 64, 1 << 20])
def test_frames_survive_any_cut(step: int) -> None:
    sent = [(Kind.PING, b""), (Kind.OUTPUT, b"\x00\xff" * 100), (Kind.RESULT, b"{}"), (Kind.OUTPUT, b"x")]
    data = b"".join(encode(kind, payload) for kind, payload in sent)
    assert decoded(data, step) == sent


def test_many_frames_in_one_piece_use_bounded_memory() -> None:
    decoder = FrameDecoder()
    for _ in range(200):
        decoder.feed(encode(Kind.OUTPUT, b"x" * 60_000) + encode(Kind.PING)[:3])
        assert [kind for kind, _ in decoder][:1] == [Kind.OUTPUT]
        assert decoder.pending == 3
        decoder.feed(encode(Kind.PING)[3:])
        assert [kind for kind, _ in decoder] == [Kind.PING]


def test_text_with_lone_surrogates_survives() -> None:
    ((_, payload),) = decoded(encode_json(Kind.RESULT, text="\ud800 ü 日本"), 3)
    assert decode_json(payload) == {"text": "\ud800 ü 日本"}


def test_length_is_judged_before_the_payload_arrives() -> None:
    decoder = FrameDecoder(limit=10)
    decoder.feed(encode(Kind.OUTPUT, b"12345678901")[:5])
    with pytest.raises(FrameError, match="exceeds 10"):
        list(decoder)


def test_unknown_kind_ends_the_stream() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"\x00\x00\x00\x00\xfe")
    with pytest.raises(FrameError, match="unknown frame kind 254"):
        list(decoder)


@pytest.mark.parametrize("payload", [b"", b"[]", b"1", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 50_000])
def test_payloads_that_are_no_json_object_are_refused(payload: bytes) -> None:
    with pytest.raises(FrameError):
        decode_json(payload)


def test_too_large_a_frame_is_not_made() -> None:
    with pytest.raises(FrameError):
        encode(Kind.OUTPUT, bytes(MAX_FRAME + 1))
