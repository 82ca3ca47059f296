"""A web server on this machine that keeps files, knows ranges, and can be told to misbehave."""
import hashlib
import html
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class FileServer(http.server.ThreadingHTTPServer):
    """Serves ``files`` by path.

    Attributes:
        files: Content by path, ``'/name'``.
        requests: Path and ``Range`` of every request.
        drop_after: Bytes after which each of the next connections is cut, one entry per connection.
        statuses: Answers of the next requests, instead of a file.
        ranges: Whether it knows ranges.
        listing: Whether it shows a page of links for a folder.
        sent: Bytes of all files and parts of files that it sent.
        pause: Seconds between pieces of 1000 bytes.
    """
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.url = f'http://127.0.0.1:{self.server_port}'
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.drop_after: list[int] = []
        self.statuses: list[int] = []
        self.ranges = True
        self.listing = False
        self.sent = 0
        self.pause = 0.


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        wanted = self.headers.get('Range')
        self.server.requests.append((self.path, wanted))
        if self.server.statuses:
            self.send_error(self.server.statuses.pop(0))
            return
        content = self.server.files.get(self.path)
        if content is None:
            self._list()
            return
        version, start, end = f'"{hashlib.sha256(content).hexdigest()[:8]}"', 0, len(content)
        if self.server.ranges and wanted and self.headers.get('If-Range', version) == version:
            first, _, last = wanted.removeprefix('bytes=').partition('-')
            start, end = int(first), min(int(last or end) + 1, end)
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header('Content-Range', f'bytes {start}-{end - 1}/{len(content)}')
        else:
            self.send_response(200)
        self.send_header('ETag', version)
        self.send_header('Content-Length', str(end - start))
        self.end_headers()
        content = content[start:end]
        if self.server.drop_after:
            content = content[:self.server.drop_after.pop(0)]
        for piece in range(0, len(content), 1000 if self.server.pause else 2**20):
            self.server.sent += self.wfile.write(content[piece:piece + (1000 if self.server.pause else 2**20)])
            time.sleep(self.server.pause)
        self.close_connection = True

    def _list(self) -> None:
        """The page of a folder, as Apache writes it."""
        folder = self.path.rstrip('/') + '/'
        inside = {name.removeprefix(folder) for name in self.server.files if name.startswith(folder)}
        if not self.server.listing or not inside:
            self.send_error(404)
            return
        links = sorted({first + slash for first, slash, _ in (name.partition('/') for name in inside)})
        hrefs = ['?C=N;O=D', '/', *(html.escape(link) for link in links)]
        page = ''.join(f'<a href="{href}">{number}</a>\n' for number, href in enumerate(hrefs)).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'text/html')
        self.send_header('Content-Length', str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def do_HEAD(self) -> None:
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Starts it on a free port of the loopback interface."""
    with FileServer() as server:
        threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
