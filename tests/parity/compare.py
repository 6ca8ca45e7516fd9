"""Compares two runs of a manifest: requests, records, the last state of each stream, errors.

Pure: takes what both sides did, gives sentences. What depends on chance of scheduling (how requests of different partitions mix) is not
compared; what depends on the manifest (order within a partition, counts, types of values) is.
"""
import collections
import json
import urllib.parse
from dataclasses import dataclass, field

SHOWN = 5
# What an HTTP client adds by itself; anything else was set by the manifest.
OF_THE_CLIENT = {
    "host", "user-agent", "accept", "accept-encoding", "connection", "content-length", "transfer-encoding", "content-type", "traceparent",
    "keep-alive", "te",
}


@dataclass
class Run:
    """What one side did: requests as the API saw them, and the lines it printed."""

    requests: list
    lines: list

    def of(self, kind):
        return [line for line in self.lines if line["type"] == kind]


@dataclass
class Ignore:
    """What a case leaves out of the comparison, because it is random: names of headers, query parameters, top-level fields of records."""

    headers: list = field(default_factory=list)
    query: list = field(default_factory=list)
    record_fields: list = field(default_factory=list)
    body_fields: list = field(default_factory=list)
    # Fields at the top of states. The lookback window is how long the sync took, which waits in parallel make a matter of chance.
    state_fields: list = field(default_factory=list)
    # Waits that the reference draws by lot.
    waits: bool = False
    # Prefixes of URLs that either side may ask more than once, like the endpoints of tokens.
    once: list = field(default_factory=list)


def canonical(value):
    """JSON text that tells 1 from 1.0, "1" and true, but not one order of keys from another."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def compare(reference, ours, ignore):
    """Differences and notes, as lists of text. No difference: the sides agree."""
    differences, notes = [], []
    differences += compare_requests(reference, ours, ignore)
    differences += compare_records(reference, ours, ignore)
    differences += compare_states(reference, ours, ignore)
    found, said = compare_errors(reference, ours)
    differences, notes = differences + found, notes + said
    for kind, key in (("schema", "schema"), ("config", "config")):
        found, said = compare_optional(reference, ours, kind, key)
        differences, notes = differences + found, notes + said
    found, said = ([], []) if ignore.waits else compare_waits(reference, ours)
    differences, notes = differences + found, notes + said
    notes += raw_url_notes(reference, ours, ignore)
    return differences, notes


def shown_request(request):
    parts = [f"{request['method']} {request['url']}"]
    parts += [f"{name}: {value}" for name, value in request["headers"]]
    if request["body"] is not None:
        parts.append(f"body {request['body']}")
    return " | ".join(parts)


def normal_request(request, ignore):
    """A request without what the HTTP client adds, comparable as text."""
    parts = urllib.parse.urlsplit(request["url"])
    pairs = sorted((k, v) for k, v in urllib.parse.parse_qsl(parts.query, keep_blank_values=True) if k not in ignore.query)
    headers = {name.lower(): value for name, value in request["headers"].items()}
    kept = {name: value for name, value in headers.items() if name not in OF_THE_CLIENT}
    if headers.get("accept", "*/*") != "*/*":
        kept["accept"] = headers["accept"]
    if not headers.get("user-agent", "").startswith(("python-requests", "thimble")) and "user-agent" in headers:
        kept["user-agent"] = headers["user-agent"]
    if request["body"] and "content-type" in headers:
        kept["content-type"] = headers["content-type"]
    url = urllib.parse.urlunsplit(parts._replace(path=urllib.parse.unquote(parts.path), query=urllib.parse.urlencode(pairs), fragment=""))
    kept = sorted((name, value) for name, value in kept.items() if name not in {name.lower() for name in ignore.headers})
    return {"method": request["method"], "url": url, "headers": kept, "body": normal_body(request["body"], headers, ignore)}


def normal_body(body, headers, ignore):
    if not body:
        return None
    text = body.decode("utf-8", "replace")
    if "x-www-form-urlencoded" in headers.get("content-type", ""):
        pairs = urllib.parse.parse_qsl(text, keep_blank_values=True)
        return canonical(sorted(pair for pair in pairs if pair[0] not in ignore.body_fields))
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if key not in ignore.body_fields}
    return canonical(value)


def only_here(reference, ours, show, what):
    """Sentences for what one multiset has and the other lacks."""
    left, right = collections.Counter(reference), collections.Counter(ours)
    lines = []
    for side, items in (("only the reference", left - right), ("only ours", right - left)):
        for number, (item, count) in enumerate(items.items()):
            if number == SHOWN:
                lines.append(f"{what}: … {len(items) - SHOWN} more in {side}")
                break
            times = f" ({count} times)" if count > 1 else ""
            lines.append(f"{what}, {side}{times}: {show(item)}")
    return lines


def in_order(reference_groups, ours, what):
    """Within each group of the reference, what is unique to the group must come in the same order on our side."""
    owners = collections.defaultdict(set)
    for group, items in reference_groups.items():
        for item in items:
            owners[item].add(group)
    lines = []
    for group, items in reference_groups.items():
        own = [item for item in items if len(owners[item]) == 1]
        members = set(own)
        got = [item for item in ours if item in members]
        if own != got and collections.Counter(own) == collections.Counter(got):
            at = next(i for i, (a, b) in enumerate(zip(own, got)) if a != b)
            lines.append(f"{what}: another order within {group or 'the stream'} at {at}: {own[at][:200]} came there, ours has {got[at][:200]}")
    return lines[:SHOWN]


def compare_requests(reference, ours, ignore):
    left, right = request_texts(reference, ignore), request_texts(ours, ignore)
    lines = only_here(left, right, lambda text: shown_request(json.loads(text)), "request")
    groups = collections.defaultdict(list)
    for request, text in zip(reference.requests, [canonical(normal_request(request, ignore)) for request in reference.requests]):
        groups[request["notes"].get("partition", "")].append(text)
    groups.pop("", None)
    return lines + in_order(groups, right, "requests")


def request_texts(run, ignore):
    """Every request as text; those to URLs of `once` only the first time."""
    texts, seen = [], set()
    for request in run.requests:
        text = canonical(normal_request(request, ignore))
        if text not in seen or not request["url"].startswith(tuple(ignore.once)):
            texts.append(text)
        seen.add(text)
    return texts


def compare_records(reference, ours, ignore):
    def texts(run):
        found = collections.defaultdict(list)
        for line in run.of("record"):
            data = {key: value for key, value in line["data"].items() if key not in ignore.record_fields}
            found[line["stream"]].append((canonical(data), line.get("partition", "")))
        return found

    left, right = texts(reference), texts(ours)
    lines = []
    for stream in sorted({*left, *right}):
        mine = [text for text, _ in right[stream]]
        lines += only_here([text for text, _ in left[stream]], mine, lambda text: text[:600], f"record of {stream}")
        groups = collections.defaultdict(list)
        for text, partition in left[stream]:
            groups[partition].append(text)
        lines += in_order(groups, mine, f"records of {stream}")
    return lines


def normal_state(value):
    """The order in which partitions are listed depends on which ended first."""
    if isinstance(value, dict):
        return {key: normal_list(item) if key in ("states", "slices") else normal_state(item) for key, item in value.items()}
    if isinstance(value, list):
        return [normal_state(item) for item in value]
    return value


def normal_list(value):
    return sorted((normal_state(item) for item in value), key=canonical) if isinstance(value, list) else value


def last_states(run, ignore):
    """The last state of each stream. Streams without a cursor have none: the reference says so with a message of its own."""
    last = {line["stream"]: line["state"] for line in run.of("state")}
    last = {stream: state for stream, state in last.items() if state not in ({}, {"__ab_no_cursor_state_message": True})}
    return {stream: {key: value for key, value in state.items() if key not in ignore.state_fields} for stream, state in last.items()}


def compare_states(reference, ours, ignore):
    left, right = last_states(reference, ignore), last_states(ours, ignore)
    failed = {line["stream"] for line in ours.of("error")} & {line["stream"] for line in reference.of("error")}
    lines = []
    for stream in sorted({*left, *right}):
        have, got = (canonical(normal_state(side[stream])) if stream in side else "none" for side in (left, right))
        # Whoever says nothing of a stream that failed lets it be read again.
        if have != got and not (stream in failed and stream not in right):
            lines.append(f"last state of {stream}: the reference has {have}, ours {got}")
    return lines


def compare_errors(reference, ours):
    def kinds(run):
        return {(line["stream"], line["kind"]) for line in run.of("error")}

    left, right = kinds(reference), kinds(ours)
    lines, notes = [], []
    for stream in sorted({stream for stream, _ in left | right}, key=str):
        have = {kind for name, kind in left if name == stream}
        got = {kind for name, kind in right if name == stream}
        if have != got and not ("any" in have and got):
            of = f"stream {stream}" if stream else "the whole run"
            lines.append(f"errors of {of}: the reference has {sorted(have) or 'none'}, ours {sorted(got) or 'none'}")
    for side, run in (("reference", reference), ("ours", ours)):
        for text in dict.fromkeys(f"{line['stream']}: {line['kind']}: {line['message']}" for line in run.of("error")):
            notes.append(f"error, {side}: {text[:400]}")
    return lines, notes


def compare_optional(reference, ours, kind, key):
    """Schemas, and configurations written back: compared only if our side prints such lines at all."""
    left, right = (
        [canonical({"stream": line.get("stream"), key: line[key]}) for line in run.of(kind) if key in line] for run in (reference, ours)
    )
    if not right:
        return [], [f"our side prints no {kind}, so it was not compared"] if left else []
    return only_here(left, right, lambda text: text[:800], kind), []


def compare_waits(reference, ours):
    """How long was waited before requests were tried again, per stream and to the second; only if our side says so."""
    def waits(run):
        found = collections.defaultdict(list)
        for line in run.of("wait"):
            found[line.get("stream")].append(round(line["seconds"]))
        found.pop(None, None)
        return found

    left, right = waits(reference), waits(ours)
    if not right:
        return [], ["our side prints no waits, so they were not compared"] if left else []
    streams = sorted({*left, *right})
    return [f"waits of {name}: the reference {left[name]}, ours {right[name]}" for name in streams if left[name] != right[name]], []


def raw_url_notes(reference, ours, ignore):
    """URLs that mean the same but are written differently: most APIs do not care, some do."""
    def raw(run):
        found = collections.defaultdict(set)
        for request in run.requests:
            found[canonical(normal_request(request, ignore))].add(request["url"])
        return found

    left, right = raw(reference), raw(ours)
    for text in left:
        if text in right and left[text].isdisjoint(right[text]):
            return [f"the same URL, written differently: the reference {min(left[text])}, ours {min(right[text])}"]
    return []
