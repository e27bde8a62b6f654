"""What a running server shows to the machine that it is on."""

from __future__ import annotations

import psutil


def test_nothing_but_the_api_listens(shared_server):
    server = psutil.Process(shared_server.process.pid)
    processes = [server, *server.children(recursive=True)]
    assert shared_server.worker_pid() in {process.pid for process in processes}
    sockets = [socket for process in processes for socket in process.net_connections("inet")]
    listening = {socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN}
    assert [f"http://{place.ip}:{place.port}" for place in listening] == [shared_server.url]
    assert not [socket for socket in sockets if socket.status == psutil.CONN_NONE]  # nor any datagrams
