"""What the reference did on a case, kept until the case or the harness changes, so that comparing our side needs no reference.

Results of our own cases are kept beside them (`expected.json`, always written by the reference, never by hand). Those of published manifests
hold parts of these, so they stay in `.scratch`.
"""
import base64
import hashlib
import json
import pathlib

from compare import Run

HERE = pathlib.Path(__file__).resolve().parent
SCRATCH = HERE.parent.parent / ".scratch/parity-reference"
# What decides how the reference is run.
OF_THE_HARNESS = ("clock.py", "fixtures.py", "reference.py", "server.py", "setup")


def digest_of(case):
    digest = hashlib.sha256()
    files = [case.manifest, case.config, case.state, *case.folder.iterdir(), *(HERE / name for name in OF_THE_HARNESS)]
    for file in sorted({file for file in files if file.is_file() and file.name != "expected.json"}, key=lambda file: file.name):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:32]


def place_of(case):
    if case.folder.parent == HERE / "cases" and "package" not in case.settings:
        return case.folder / "expected.json"
    return SCRATCH / f"{case.name}.json"


def load(case):
    """The kept run, or None if there is none of this case as it is now."""
    place = place_of(case)
    if not place.exists():
        return None
    kept = json.loads(place.read_text())
    if kept["digest"] != digest_of(case):
        return None
    requests = [{**request, "body": base64.b64decode(request["body"])} for request in kept["requests"]]
    return Run(requests, kept["lines"])


def save(case, run):
    """One line for each request and each line of output, so that changes can be read."""
    place = place_of(case)
    place.parent.mkdir(parents=True, exist_ok=True)
    requests = [json.dumps(plain(request)) for request in run.requests]
    lines = [json.dumps(line) for line in run.lines]
    parts = [f'"digest": "{digest_of(case)}"', listed("requests", requests), listed("lines", lines)]
    place.write_text("{" + ",\n".join(parts) + "}\n")


def plain(request):
    """A request as JSON; its `Host` is the mock's own."""
    headers = {name: value for name, value in request["headers"].items() if name != "host"}
    return {**request, "headers": headers, "body": base64.b64encode(request["body"]).decode()}


def listed(name, items):
    return f'"{name}": [\n' + ",\n".join(items) + "\n]"
