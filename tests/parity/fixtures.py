"""What the mock API answers: reads a case's `fixtures.json` and decides the answer to one request.

A string that begins with `=` is a Python expression over the request (`query`, `json`, `form`, `headers`, `path`, `url`, `n`) or over
the index `i` of a generated record. Fixtures are part of the tests and trusted as such.
Pure but for files of the case's folder and the counters of sequences; it never opens a socket.
"""
import base64
import datetime
import gzip
import importlib.util
import io
import json
import pathlib
import re
import threading
import urllib.parse
import zipfile
from dataclasses import dataclass, field

DEFAULT_NOW = "2024-03-01T00:00:00Z"
MAX_RECORDS = 100_000


@dataclass
class Request:
    """One request as the API would have seen it: `url` is the original one, with scheme and host."""

    method: str
    url: str
    headers: dict
    body: bytes
    n: int = 1

    def __post_init__(self):
        parts = urllib.parse.urlsplit(self.url)
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.path = urllib.parse.unquote(parts.path)
        self.pairs = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
        self.query = dict(self.pairs)
        self.json = parsed_json(self.body)
        self.form = dict(urllib.parse.parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))


@dataclass
class Answer:
    """`drop` closes the connection instead of answering."""

    status: int = 200
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    drop: bool = False


def parsed_json(body):
    try:
        return json.loads(body)
    except ValueError:
        return None


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def day(start, days, form="%Y-%m-%d"):
    """The day `days` after `start`, as text."""
    return (moment(start) + datetime.timedelta(days=days)).strftime(form)


def after(start, form="%Y-%m-%dT%H:%M:%SZ", **delta):
    """The moment `delta` (days=…, hours=…) after `start`, as text."""
    return (moment(start) + datetime.timedelta(**delta)).strftime(form)


def epoch(start, **delta):
    return int((moment(start) + datetime.timedelta(**delta)).timestamp())


TOOLS = {"day": day, "after": after, "epoch": epoch, "re": re, "dumps": json.dumps, "quote": urllib.parse.quote}


def filled(value, names):
    """The value with every `=expression` in it evaluated over `names`."""
    if isinstance(value, str) and value.startswith("="):
        # One dictionary, so that comprehensions inside an expression see the names too.
        return eval(value[1:], {**TOOLS, **names})
    if isinstance(value, list):
        return [filled(item, names) for item in value]
    if isinstance(value, dict):
        return {key: filled(item, names) for key, item in value.items()}
    return value


class Fixtures:
    """The routes and the generated records of one case. Made anew for each side, so that sequences start at their beginning."""

    def __init__(self, folder, name="fixtures.json"):
        self.folder = pathlib.Path(folder)
        self.raw = json.loads((self.folder / name).read_text())
        self.now = moment(self.raw.get("now", DEFAULT_NOW))
        self.records = {key: self._generated(spec) for key, spec in self.raw.get("records", {}).items()}
        self.routes = [Route(spec) for spec in self.raw["routes"]]
        self.hook = self._hook()
        self._lock = threading.Lock()
        self._seen = {}

    @property
    def now_microseconds(self):
        return round(self.now.timestamp() * 1_000_000)

    def _generated(self, spec):
        if isinstance(spec, list):
            return spec
        count = spec["count"]
        if count > MAX_RECORDS:
            raise ValueError(f"a fixture generates at most {MAX_RECORDS} records")
        return [filled(spec["record"], {"i": i}) for i in range(count)]

    def _hook(self):
        file = self.folder / "server.py"
        if not file.exists():
            return None
        spec = importlib.util.spec_from_file_location(f"hook_{self.folder.name.replace('-', '_')}", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.Api() if hasattr(module, "Api") else module

    def answer(self, method, url, headers, body):
        """The answer to a request, or None if no route is for it."""
        request = Request(method, url, headers, body)
        key = (method, url, body)
        with self._lock:
            self._seen[key] = request.n = self._seen.get(key, 0) + 1
        if self.hook is not None:
            given = self.hook.answer(request, self)
            if given is not None:
                return Answer(**given) if isinstance(given, dict) else given
        for route in self.routes:
            captures = route.captures(request)
            if captures is not None:
                return self._from_route(route, request, captures)
        return None

    def _from_route(self, route, request, captures):
        names = {
            "query": request.query, "json": request.json, "form": request.form, "headers": request.headers, "url": request.url,
            "n": request.n, "body": request.body.decode("utf-8", "replace"), "records": self.records, **captures,
        }
        spec = route.answer_of(request.n)
        if "pages" in spec:
            names.update(page_of(spec["pages"], names, self.records))
        return self._built(spec, names)

    def _built(self, spec, names):
        if spec.get("drop"):
            return Answer(drop=True)
        headers = {name: str(value) for name, value in filled(spec.get("headers", {}), names).items()}
        body = b""
        if "json" in spec:
            headers.setdefault("Content-Type", "application/json")
            body = json.dumps(filled(spec["json"], names)).encode()
        elif "text" in spec:
            headers.setdefault("Content-Type", "text/plain")
            body = str(filled(spec["text"], names)).encode(spec.get("encoding", "utf-8"))
        elif "base64" in spec:
            body = base64.b64decode(spec["base64"])
        elif "file" in spec:
            body = (self.folder / spec["file"]).read_bytes()
        if "zip" in spec:
            body = zipped(spec["zip"], body)
        if spec.get("gzip"):
            body = gzip.compress(body, mtime=0)
        if names.get("link"):
            headers.setdefault("Link", names["link"])
        return Answer(status=int(filled(spec.get("status", 200), names)), headers=headers, body=body)


def zipped(name, body):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), body)
    return buffer.getvalue()


class Route:
    """A condition on requests (`"on": "GET https://host/path/{capture}"`, query, headers, json, form) and one or more answers."""

    def __init__(self, spec):
        method, _, target = spec["on"].partition(" ")
        origin, path = re.fullmatch(r"(https?://[^/]+)?([/*].*)", target or "*").groups()
        self.method, self.origin = method, origin
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path)).replace(r"\*", ".*")
        self.path = re.compile(pattern)
        self.spec = spec
        self.answers = spec["answers"] if "answers" in spec else [spec]

    def captures(self, request):
        if self.method not in ("*", request.method) or self.origin not in (None, request.origin):
            return None
        found = self.path.fullmatch(request.path)
        if not found:
            return None
        lower = {name.lower(): value for name, value in self.spec.get("headers_are", {}).items()}
        wanted = [
            (self.spec.get("query", {}), request.query), (lower, request.headers),
            (self.spec.get("json_has", {}), request.json or {}), (self.spec.get("form", {}), request.form),
        ]
        fits = all(holds(value, have.get(name)) for want, have in wanted for name, value in want.items())
        return found.groupdict() if fits else None

    def answer_of(self, n):
        """The n-th answer to the same request; the last one repeats."""
        return self.answers[min(n, len(self.answers)) - 1]


def holds(wanted, have):
    """`null` asks for absence, `"*"` for presence, anything else for equality."""
    if wanted is None:
        return have is None
    if wanted == "*":
        return have is not None
    return wanted == have


def page_of(spec, names, records):
    """The names a paged answer adds: page (records), total, next (cursor, number or URL), has_more, link."""
    rows = records[spec["of"]]
    if "where" in spec:
        rows = [row for row in rows if filled("=" + spec["where"], {**names, "row": row})]
    given = {"query": names["query"], "json": names["json"] or {}, "form": names["form"]}[spec.get("in", "query")]
    size = int(given.get(spec.get("size_param"), spec.get("size", 10)))
    first = int(spec.get("first", 1))
    by, param = spec["by"], spec.get("param", "page")
    if by == "page":
        start = (int(given.get(param, first)) - first) * size
    elif by == "offset":
        start = int(given.get(param, 0))
    else:
        start = int(str(given.get(param, "c0"))[1:])
    page, more = rows[start:start + size], start + size < len(rows)
    after_this = {"page": start // size + 1 + first, "offset": start + size}.get(by, f"c{start + size}")
    found = {"page": page, "total": len(rows), "has_more": more, "next": after_this if more else None, "start": start, "link": None}
    if by in ("next", "link") and more:
        found["next"] = with_param(names["url"], param, f"c{start + size}")
        found["link"] = f'<{found["next"]}>; rel="next"' if by == "link" else None
    return found


def with_param(url, param, value):
    """The URL of the request with one parameter set anew."""
    parts = urllib.parse.urlsplit(url)
    pairs = [(key, old) for key, old in urllib.parse.parse_qsl(parts.query, keep_blank_values=True) if key != param]
    return urllib.parse.urlunsplit(parts._replace(query=urllib.parse.urlencode([*pairs, (param, value)])))
