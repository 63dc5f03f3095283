"""Cutting output, pure."""

from __future__ import annotations

import pytest

from mcp_agentrun.sandbox import Output
from mcp_agentrun.sandbox.execution import PartialOutput


def output(data: bytes, keep: int = 1 << 20, tail: int = 64) -> Output:
    """As the runner would have sent it."""
    return Output(data[:keep], data[keep:][-tail:], len(data))


def test_short_output_is_whole() -> None:
    assert output("héllo\n".encode()).text(100) == "héllo\n"
    assert output(b"x" * 100).text(100) == "x" * 100


def test_long_output_shows_head_and_tail_and_counts_the_gap() -> None:
    text = output(b"a" * 500 + b"b" * 500).text(100)
    assert text == f"{'a' * 50}\n[... 900 of 1000 bytes of output not shown ...]\n{'b' * 50}"


def test_what_was_discarded_counts_too() -> None:
    text = output(b"a" * 500 + b"-" * 500 + b"b" * 500, keep=200).text(100)
    assert text == f"{'a' * 50}\n[... 1400 of 1500 bytes of output not shown ...]\n{'b' * 50}"


@pytest.mark.parametrize("limit", range(20, 60))
@pytest.mark.parametrize("character", ["é", "日", "🐧"])
def test_no_cut_goes_through_a_character(limit: int, character: str) -> None:
    data = (character * 100).encode()
    text = output(data, keep=70, tail=33).text(limit)
    assert "\ufffd" not in text
    head, gap, tail = text.split("\n")
    assert set(head) <= {character}
    assert set(tail) <= {character}
    hidden = int(gap.split()[1])
    assert hidden + len((head + tail).encode()) == len(data)


@pytest.mark.parametrize("limit", [0, 1, 2, 3])
def test_the_smallest_limits_hold(limit: int) -> None:
    head, gap, tail = output(b"abcdefgh").parts(limit)
    assert (len(head) + len(tail), gap) == (limit, 8 - limit)


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert output(b"a\xff\xfeb").text() == "a\ufffd\ufffdb"


def test_a_progress_bar_before_a_long_line_is_collapsed_in_no_time() -> None:
    data = b"".join(b"\r%d%%" % part for part in range(100)) + b"\n" + b"x" * (8 << 20)
    output = Output(data, b"", len(data)).collapsed()
    assert output.head == b"99%\n" + b"x" * (8 << 20)


@pytest.mark.parametrize("keep", [7, 500, 100_000])
@pytest.mark.parametrize("limit", [5, 1000])
def test_output_is_read_in_parts_while_it_is_written(keep: int, limit: int) -> None:
    text = "aé漢🎉\n" * 8000
    data = text.encode()
    partial = PartialOutput(keep)
    offset, read, has_gap = 0, "", False
    for at in range(0, len(data), 9):
        partial.add(data[at : at + 9])
        begin, part, end = partial.output().since(offset, limit, is_complete=False)
        if limit == 1000:  # who reads faster than it is written misses nothing
            offset, read = end, read + part
    output = partial.output()
    while offset < output.written:
        begin, part, end = output.since(offset, limit, is_complete=True)
        assert offset <= begin and end > offset and len(part.encode()) <= end - begin <= limit
        has_gap |= begin > offset
        offset, read = end, read + part
    assert output.since(offset, limit, is_complete=True) == (offset, "", offset)
    assert output.since(1 << 70, limit, is_complete=True) == (offset, "", offset)
    assert has_gap == (limit == 5 and keep < 100_000)
    assert (read == text) != has_gap
    assert "\ufffd" not in read and read[-1000:] == text[-1000:]


def test_output_that_is_no_text_is_read_to_its_end() -> None:
    output = Output(b"\xe6\xbc", b"\xbc" * 10 + b"\xff\xe6", 100)
    assert output.since(0, 10, is_complete=False) == (0, "", 2)
    assert output.since(2, 100, is_complete=False) == (98, "\ufffd", 99)
    assert output.since(99, 100, is_complete=False) == (99, "", 99)
    assert output.since(99, 100, is_complete=True) == (99, "\ufffd", 100)
