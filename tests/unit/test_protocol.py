"""The frame codec, without a stream."""

from __future__ import annotations

import pytest

from mcp_agentrun.wire.codec import MAX_FRAME, Frame, FrameDecoder, ProtocolError, encode_frame

PING, OUTPUT, RESULT = 3, 12, 82


def decoded(data: bytes, step: int) -> list[Frame]:
    decoder = FrameDecoder()
    frames: list[Frame] = []
    for start in range(0, len(data), step):
        decoder.feed(data[start : start + step])
        frames += decoder
    assert decoder.pending == 0
    return frames


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 64, 1 << 20])
def test_frames_survive_any_cut(step: int) -> None:
    sent = [(PING, b""), (OUTPUT, b"\x00\xff" * 100), (RESULT, b"{}"), (OUTPUT, b"x")]
    data = b"".join(encode_frame(kind, payload) for kind, payload in sent)
    assert decoded(data, step) == sent


def test_many_frames_in_one_piece_use_bounded_memory() -> None:
    decoder = FrameDecoder()
    for _ in range(200):
        decoder.feed(encode_frame(OUTPUT, b"x" * 60_000) + encode_frame(PING, b"")[:3])
        assert [kind for kind, _ in decoder][:1] == [OUTPUT]
        assert decoder.pending == 3
        decoder.feed(encode_frame(PING, b"")[3:])
        assert [kind for kind, _ in decoder] == [PING]


def test_length_is_judged_before_the_payload_arrives() -> None:
    decoder = FrameDecoder(limit=10)
    decoder.feed(encode_frame(OUTPUT, b"12345678901")[:5])
    with pytest.raises(ProtocolError, match="exceeds 10"):
        list(decoder)


def test_too_large_a_frame_is_not_made() -> None:
    with pytest.raises(ProtocolError):
        encode_frame(OUTPUT, bytes(MAX_FRAME + 1))
