"""An S3 of its own on this machine, that writes down what it is asked for and can be told to fail."""
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.server import ThreadedMotoServer

KEYS = dict(AWS_ACCESS_KEY_ID='key', AWS_SECRET_ACCESS_KEY='secret', AWS_DEFAULT_REGION='us-east-1',
            AWS_EC2_METADATA_DISABLED='true')


class ObjectStorage:
    """A moto server.

    Attributes:
        environment: What a process needs to find it.
        requests: Method and path of every request.
        fail: Called with method and path before each request; a status and a body, if it returns them, are the answer.
        alter: Called with path and content of what is downloaded; what it returns is sent instead.
    """

    def __init__(self, server: Any) -> None:
        host, port = server.get_host_and_port()
        self.environment = KEYS | dict(AWS_ENDPOINT_URL=f'http://{host}:{port}')
        self.requests: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], tuple[str, bytes] | None] = lambda method, path: None
        self.alter: Callable[[str, bytes], bytes] | None = None
        self._app, server._server.app = server._server.app, self

    def __call__(self, environ: dict, start_response: Callable) -> Any:
        request = environ['REQUEST_METHOD'], environ['PATH_INFO']
        self.requests.append(request)
        answer = self.fail(*request)
        if answer is not None:
            status, body = answer
            start_response(status, [('Content-Type', 'application/xml'), ('Content-Length', str(len(body)))])
            return [body]
        if self.alter is None or environ['REQUEST_METHOD'] != 'GET':
            return self._app(environ, start_response)
        started = []
        body = b''.join(self._app(environ, lambda *start: started.append(start)))
        (status, headers, *_), = started
        body = self.alter(environ['PATH_INFO'], body) if status.startswith('2') else body
        start_response(status, [(name, value) for name, value in headers if name.lower() != 'content-length']
                       + [('Content-Length', str(len(body)))])
        return [body]

    def taken(self) -> list[tuple[str, str]]:
        """The requests since the last look."""
        taken, self.requests = self.requests, []
        return taken

    def downloads(self, suffix: str = '.logits') -> list[str]:
        """The files with this suffix that were downloaded since the last look."""
        return [path for method, path in self.taken() if method == 'GET' and path.endswith(suffix)]


@contextmanager
def object_storage() -> Iterator[ObjectStorage]:
    """Starts it on a free port of the loopback interface."""
    logging.getLogger('werkzeug').setLevel(logging.ERROR)
    server = ThreadedMotoServer('127.0.0.1', 0, verbose=False)
    server.start()
    try:
        yield ObjectStorage(server)
    finally:
        server.stop()
