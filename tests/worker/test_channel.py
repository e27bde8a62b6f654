"""The worker's end of the wire."""

from __future__ import annotations

import socket
import threading

import pytest

from vitascope import wire
from vitascope.worker.channel import Channel


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    closed = threading.Event()
    yield ours, Channel(theirs, closed.set), closed
    ours.close()
    assert closed.wait(600)
    theirs.close()


def test_commands_arrive_in_order_whatever_the_pieces_they_come_in(ends):
    ours, channel, _ = ends
    commands = [wire.Cancel(job_id=str(i), token=i) for i in range(50)]
    for byte in b"".join(wire.encode(command) for command in commands):
        ours.send(bytes([byte]))
    got: list[wire.Command] = []
    while len(got) < 50:
        got += channel.take(wait=True)
    assert got == commands
    assert channel.take(wait=False) == []


def test_events_of_many_threads_never_mix(ends):
    ours, channel, _ = ends
    image = bytes(100_000)
    threads = [
        threading.Thread(target=lambda i=i: channel.send(wire.Preview(job_id="a", step=i, image=image)))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    received, steps = wire.ReceiveBuffer(), []
    while len(steps) < 8:
        steps += [wire.decode_event(body).step for body in received.feed(ours.recv(1 << 16))]
    assert sorted(steps) == list(range(8))
    for thread in threads:
        thread.join()


def test_a_server_that_is_gone_ends_the_worker(ends):
    ours, _, closed = ends
    ours.close()
    assert closed.wait(600)


def test_nonsense_ends_the_worker(ends, caplog):
    ours, _, closed = ends
    ours.sendall(b"\x00\x00\x00\x03abc")
    assert closed.wait(600)
    assert "nonsense" in caplog.text


def test_a_signal_looks_like_a_shutdown(ends):
    _, channel, _ = ends
    channel.request_shutdown()
    assert channel.take(wait=True) == [wire.Shutdown()]
