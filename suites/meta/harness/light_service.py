"""A stack of nothing: tests of processes need no torch, whose import takes seconds. Runs inside the worker."""

import itertools
import pkgutil

from fixtures.worker import protocol

LIGHT = f"@{__name__}"  # among the modules of a fork server


def serve(connection):
    """Answer calls of `suites.meta.harness.worker_calls` until the connection closes, as the real service does."""
    for number in itertools.count(1):
        request, _ = protocol.receive(connection)
        del request["operation"]
        result = pkgutil.resolve_name(request.pop("function"))(None, **request)
        protocol.send(connection, {"result": result, "number": number}, {})
