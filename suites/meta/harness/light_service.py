"""A stack of nothing: tests of processes need no torch, whose import takes seconds. Runs inside the worker."""

import itertools
import pkgutil

from fixtures.worker import protocol


def serve(connection):
    """Answer calls of `suites.meta.harness.worker_calls` until the connection closes, as the real service does."""
    for number in itertools.count(1):
        request, _ = protocol.receive(connection)
        result = pkgutil.resolve_name(request.pop("function"))(None, **_arguments(request))
        protocol.send(connection, {"result": result, "number": number}, {})


def _arguments(request):
    return {name: value for name, value in request.items() if name != "operation"}
