"""What the test process keeps of its workers' ends."""

import socket
import time

from fixtures.worker import protocol
from fixtures.worker.pool import ForkServer


def test_the_end_of_an_earlier_process_is_not_that_of_a_new_one_with_its_number():
    """Numbers of processes come round again; a worker taken for ended would neither be killed nor waited for."""
    server = ForkServer.__new__(ForkServer)
    server.control, theirs = socket.socketpair()
    server.statuses = {5: 0}
    with server.control, theirs:
        protocol.send(theirs, {"exited": 7, "status": 9})
        protocol.send(theirs, {"forked": 7})
        assert server._await("forked", time.monotonic() + 5) == {"forked": 7}
        assert server.statuses == {5: 0}
        protocol.send(theirs, {"exited": 7, "status": 11})
        server._await("exited", time.monotonic() + 5)
        assert server.statuses == {5: 0, 7: 11}
