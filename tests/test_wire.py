from __future__ import annotations

import struct
from types import NoneType, UnionType
from typing import Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitascope import wire

WHOLE = st.integers(0, 2**63 - 1)
# A whole card takes long to draw where others use the machine.
SLOWLY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LEAVES = {
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    int: WHOLE,
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=200),
    NoneType: st.none(),
}


def any_of(kind):
    """Every value of a type that messages are made of."""
    if kind in LEAVES:
        return LEAVES[kind]
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return st.one_of(*map(any_of, parts))
    if origin is Literal:
        return st.sampled_from(parts)
    if origin is dict:
        return st.dictionaries(*map(any_of, parts), max_size=3)
    if origin is tuple and parts[-1] is Ellipsis:
        return st.lists(any_of(parts[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(any_of, parts))
    return st.builds(kind, **{name: any_of(hint) for name, hint in get_type_hints(kind).items()})


COMMANDS = get_args(wire.Command)
EVENTS = get_args(wire.Event)


def body_of(message):
    (body,) = wire.ReceiveBuffer().feed(wire.encode(message))
    return body


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
@SLOWLY
@given(data=st.data())
def test_every_command_comes_out_as_it_went_in(kind, data):
    message = data.draw(any_of(kind))
    assert wire.decode_command(body_of(message)) == message


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
@SLOWLY
@given(data=st.data())
def test_every_event_comes_out_as_it_went_in(kind, data):
    message = data.draw(any_of(kind))
    assert wire.decode_event(body_of(message)) == message


def test_every_message_is_a_command_or_an_event_and_none_is_both():
    kinds = {
        kind for kind in vars(wire).values() if isinstance(kind, type) and issubclass(kind, wire.Message)
    }
    assert kinds - {wire.Message} == {*COMMANDS, *EVENTS}
    assert not {*COMMANDS} & {*EVENTS}


def test_a_command_is_no_event():
    with pytest.raises(wire.WireError, match="not an event"):
        wire.decode_event(body_of(wire.Shutdown()))
    with pytest.raises(wire.WireError, match="not a command"):
        wire.decode_command(body_of(wire.Cancelled(job_id="j", token=1)))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused_with_one_error(body):
    for decode in (wire.decode_command, wire.decode_event):
        try:
            decode(body)
        except wire.WireError:
            continue


@pytest.mark.parametrize(
    "body",
    [
        {"type": "Cancel", "job_id": "j"},
        {"type": "Cancel", "job_id": "j", "token": "1"},
        {"type": "Unheard", "job_id": "j", "token": 1},
        ["Cancel", "j", 1],
        None,
    ],
)
def test_a_message_of_the_wrong_shape_is_refused(body):
    with pytest.raises(wire.WireError):
        wire.decode_command(msgspec.msgpack.encode(body))


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 50))
def test_messages_are_found_whatever_the_chunks(bodies, size):
    stream = b"".join(struct.pack(">I", len(body)) + body for body in bodies)
    received = wire.ReceiveBuffer()
    found = [body for at in range(0, len(stream), size) for body in received.feed(stream[at : at + size])]
    assert found == bodies


def test_messages_are_found_when_they_come_byte_by_byte():
    sent = [wire.Progress(job_id=f"j{n}", token=n, stage="denoise", step=n, num_steps=9) for n in range(5)]
    received, found = wire.ReceiveBuffer(), []
    for byte in b"".join(map(wire.encode, sent)):
        found += map(wire.decode_event, received.feed(bytes([byte])))
    assert found == sent


@pytest.mark.parametrize("length", [wire.MAX_MESSAGE_BYTES + 1, 2**31, 2**32 - 1])
def test_an_absurd_length_is_refused_before_anything_is_kept(length):
    with pytest.raises(
        wire.WireError, match=f"{length} bytes is announced; at most {wire.MAX_MESSAGE_BYTES}"
    ):
        wire.ReceiveBuffer().feed(struct.pack(">I", length))


def test_the_largest_length_is_waited_for():
    received = wire.ReceiveBuffer()
    assert received.feed(struct.pack(">I", wire.MAX_MESSAGE_BYTES)) == []
    assert received.feed(b"x" * (wire.MAX_MESSAGE_BYTES - 1)) == []
    assert [len(body) for body in received.feed(b"x")] == [wire.MAX_MESSAGE_BYTES]


def test_a_message_that_is_too_large_is_not_sent():
    with pytest.raises(wire.WireError, match=r"Preview is .* bytes; at most"):
        wire.encode(wire.Preview(job_id="j", step=1, image=bytes(wire.MAX_MESSAGE_BYTES)))
