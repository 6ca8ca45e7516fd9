"""The mock API: an HTTP/1.1 server that answers from fixtures and records every request.

Any host is served, and a request is recorded under its original URL: `https://api.x.com/a` comes as `/https/api.x.com/a`, or as `/a` with the
host `api.x.com`, which the mock must then know as an origin. Headers that begin with `X-Parity-` are notes of the sender to the harness: kept beside the request, not part of it.
"""
import http.server
import sys
import threading

MAX_REQUESTS = 3_000
NOTE = "x-parity-"


class MockApi:
    """Serves one side of one case. Use as a context manager; `requests` holds what was asked, in order of arrival."""

    def __init__(self, fixtures, origins=()):
        self.fixtures = fixtures
        self._origins = {origin.partition("://")[2]: origin for origin in origins}
        self.requests = []
        self._lock = threading.Lock()
        self._http = Listener(("127.0.0.1", 0), handler_for(self))

    @property
    def base(self):
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    def original(self, target, host):
        """The URL that was meant by a request."""
        scheme, _, rest = target.lstrip("/").partition("/")
        if scheme in ("http", "https") and host not in self._origins:
            return f"{scheme}://{rest}"
        return self._origins.get(host.removesuffix(":443").removesuffix(":80"), f"https://{host}") + target

    def take(self, method, target, headers, body):
        """Records a request and gives the answer."""
        url = self.original(target, headers.get("host", ""))
        notes = {name[len(NOTE):]: value for name, value in headers.items() if name.startswith(NOTE)}
        headers = {name: value for name, value in headers.items() if not name.startswith(NOTE)}
        entry = {"method": method, "url": url, "headers": headers, "body": body, "notes": notes}
        with self._lock:
            self.requests.append(entry)
            full = len(self.requests) > MAX_REQUESTS
        if full:
            entry["unmatched"] = True
            return None
        answer = self.fixtures.answer(method, url, headers, body)
        entry["unmatched"] = answer is None
        entry["status"] = answer.status if answer else 404
        return answer


class Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """A client that goes away is no fault of the server's; anything else is one of the fixtures'."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def handler_for(api):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def serve(self):
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.body(headers)
            answer = api.take(self.command, self.path, headers, body)
            if answer is None:
                self.send(404, {"Content-Type": "application/json"}, b'{"error": "no route of the fixtures fits this request"}')
            elif answer.drop:
                self.close_connection = True
            else:
                self.send(answer.status, answer.headers, answer.body)

        def body(self, headers):
            if headers.get("transfer-encoding", "").lower() == "chunked":
                return self.chunks()
            return self.rfile.read(int(headers.get("content-length", 0)))

        def chunks(self):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)

        def send(self, status, headers, body):
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status not in (204, 304):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD" and status not in (204, 304):
                self.wfile.write(body)

        def log_message(self, *_):
            pass

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = serve

    return Handler
