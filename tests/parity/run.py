"""Runs one manifest, or every case, on the reference and on our side against the same mock API, and prints where they differ.

    run.py [--ours CMD] [--only NAME…] [--verbose]      every case
    run.py MANIFEST FIXTURES [--config F] [--state F] [--ours CMD]
    run.py --selftest                                   proves that the comparison can fail

`--ours` is a command to which `--manifest FILE --config FILE [--state FILE] --stream NAME… --json --now MICROSECONDS --map FROM=TO…` is
added; `reference` compares the reference with itself. The exit code is 0 if no case differs.
"""
import argparse
import collections
import concurrent.futures
import contextlib
import importlib.util
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.parse

import manifests
import remembered
from compare import Ignore, Run, compare
from fixtures import Fixtures
from server import MockApi

HERE = pathlib.Path(__file__).resolve().parent
REFERENCE = [sys.executable, str(HERE / "reference.py")]
TIMEOUT_SECONDS = 180
SHOWN_RECORDS = 3
SHOWN_REQUESTS = 200
OURS = str(HERE.parent.parent / "target/release/thimble") + " manifest try"


class Case:
    """A folder: manifest.yaml (or case.json that says where to get it), config.json, fixtures.json, and what else is there."""

    def __init__(self, folder, manifest=None, config=None, state=None, fixtures="fixtures.json"):
        self.folder = pathlib.Path(folder).resolve()
        self.name = self.folder.name
        self.settings = json.loads(self.file("case.json").read_text()) if self.file("case.json").exists() else {}
        self.manifest = pathlib.Path(manifest).resolve() if manifest else manifests.manifest_of(self.folder, self.settings)
        self.config = pathlib.Path(config).resolve() if config else self.file("config.json")
        self.state = pathlib.Path(state).resolve() if state else self.file("state.json")
        self.catalog = self.file("catalog.json")
        self.fixtures_name = fixtures
        self.ignore = Ignore(**self.settings.get("ignore", {}))

    def file(self, name):
        return self.folder / name

    def fixtures(self):
        return Fixtures(self.folder, self.fixtures_name)

    def arguments(self):
        given = ["--manifest", str(self.manifest), "--config", str(self.config)]
        for name, file in (("--state", self.state), ("--catalog", self.catalog)):
            if file.exists():
                given += [name, str(file)]
        return given + ["--now", str(self.fixtures().now_microseconds)]


def lines_of(command, case):
    """Runs a command that prints JSON lines. Fails loudly if it prints anything else, or does not end."""
    with tempfile.TemporaryDirectory() as folder:
        # The reference keeps downloads in the folder that it runs in.
        where = {"cwd": folder} if command[:2] == REFERENCE else {}
        environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TZ": "UTC"}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env=environment, **where)
        except subprocess.TimeoutExpired:
            return [{"type": "error", "kind": "harness", "stream": None, "message": f"did not end within {TIMEOUT_SECONDS} s"}]
    try:
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
    except ValueError:
        raise SystemExit(f"{case.name}: not JSON lines: {done.stdout[:2000]}\n{done.stderr[-2000:]}") from None
    if done.returncode != 0 and not any(line["type"] == "error" for line in lines):
        text = f"exit code {done.returncode}: {done.stderr[-1500:].strip()}"
        lines.append({"type": "error", "kind": "harness", "stream": None, "message": text})
    return lines


def reference_run(case, extra=()):
    """The reference on a case, with an API of its own."""
    chosen = [part for name in case.settings.get("streams", []) for part in ("--stream", name)]
    with MockApi(case.fixtures()) as api:
        lines = lines_of([*REFERENCE, *case.arguments(), *chosen, *extra, "--map", f"*={api.base}"], case)
        return Run(api.requests, lines)


def expected(case, fresh):
    """What the reference does on a case, schemas included: remembered, or run."""
    known = None if fresh else remembered.load(case)
    if known is not None:
        return known
    if importlib.util.find_spec("airbyte_cdk") is None:
        raise SystemExit(f"{case.name} has changed since the reference ran it: run tests/parity/setup, then use .scratch/parity/bin/python")
    reference = reference_run(case)
    reference.lines += described(case)
    if not faults_of_fixtures(case, reference):
        remembered.save(case, reference)
    return reference


def described(case):
    """The schemas of the streams, as the reference discovers them, from an API of its own."""
    with MockApi(case.fixtures()) as api:
        lines = lines_of([*REFERENCE, *case.arguments(), "--schemas", "--map", f"*={api.base}"], case)
    return [line for line in lines if line["type"] == "schema"]


def streams_of(case):
    """The streams to name to our side, or none for all."""
    if case.catalog.exists():
        return [entry["name"] for entry in json.loads(case.catalog.read_text())["streams"]]
    return case.settings.get("streams", [])


def our_run(case, command, reference):
    """Our side on a case. Every origin that the fixtures or the reference know is mapped to the mock API."""
    fixtures = case.fixtures()
    origins = {route.origin for route in fixtures.routes if route.origin}
    origins |= {"/".join(request["url"].split("/")[:3]) for request in reference.requests}
    origins = origins or {"https://api.example.test"}
    chosen = [part for name in streams_of(case) for part in ("--stream", name)] or ["--all"]
    with MockApi(fixtures, origins) as api:
        maps = [part for origin in sorted(origins) for part in ("--map", f"{origin}={api.base}")]
        lines = lines_of([*command, *case.arguments(), *chosen, "--json", *maps], case)
        return Run(api.requests, lines)


def check(case, ours, verbose=False, fresh=False):
    """Compares both sides of one case. Gives whether they agree, and what to print."""
    with_itself = ours.split(" ")[0] == "reference"
    started = time.monotonic()
    reference = reference_run(case) if with_itself else expected(case, fresh)
    took = time.monotonic() - started
    other = reference_run(case, shlex.split(ours)[1:]) if with_itself else our_run(case, shlex.split(ours), reference)
    differences, notes = compare(reference, other, case.ignore)
    faults = faults_of_fixtures(case, reference)
    agree = not differences and not faults
    counts = f"{len(reference.requests)} requests, {len(reference.of('record'))} records, {len(reference.of('error'))} errors, {took:.1f} s"
    text = [f"{'ok  ' if agree else 'DIFF'} {case.name} ({counts})", *(f"     {line}" for line in faults + differences)]
    if verbose or not agree:
        text += [f"     note: {line}" for line in notes]
    if verbose:
        text += shown(reference)
    return agree, "\n".join(text)


def faults_of_fixtures(case, reference):
    """A case that meets a request without an answer, or reads nothing at all, tests nothing."""
    faults = []
    if not case.settings.get("unanswered"):
        for request in reference.requests:
            if request["unmatched"]:
                faults.append(f"fixtures: no route for {request['method']} {request['url']} {request['body'][:200]!r}")
    faults += [f"the reference: {line['message']}" for line in reference.of("error") if line["kind"] == "harness"]
    if not reference.of("record") and not reference.of("error"):
        faults.append("fixtures: the reference reads no record and meets no error")
    expected = case.settings.get("errors", 0)
    if bool(reference.of("error")) != bool(expected):
        faults.append(f"fixtures: the reference meets {len(reference.of('error'))} errors; case.json says errors: {expected}")
    return list(dict.fromkeys(faults))[:8]


def shown(run):
    text = []
    for request in run.requests[:SHOWN_REQUESTS]:
        body = f" {request['body'].decode('utf-8', 'replace')[:300]}" if request["body"] else ""
        notes = urllib.parse.unquote(request["notes"].get("partition", ""))
        text.append(f"     > {request.get('status')} {request['method']} {request['url']}{body} [{notes}]")
    seen = collections.Counter()
    for line in run.lines:
        seen[line["type"], line.get("stream")] += 1
        if line["type"] != "record" or seen[line["type"], line["stream"]] <= SHOWN_RECORDS:
            text.append(f"     < {json.dumps({key: value for key, value in line.items() if key != 'partition'})[:700]}")
    return text


def all_cases(only):
    folders = sorted(folder for folder in (HERE / "cases").iterdir() if (folder / "fixtures.json").exists())
    return [Case(folder) for folder in folders if not only or folder.name in only]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", nargs="?")
    parser.add_argument("fixtures", nargs="?")
    parser.add_argument("--config")
    parser.add_argument("--state")
    parser.add_argument("--ours", default=OURS)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--verbose", action="store_true", help="print what the reference did")
    parser.add_argument("--fresh", action="store_true", help="run the reference again, even if nothing changed")
    parser.add_argument("--jobs", type=int, default=2, help="cases at once")
    parser.add_argument("--remember", action="store_true", help="run the reference where something changed, and compare nothing")
    parser.add_argument("--selftest", action="store_true")
    return parser.parse_args()


def chosen_cases(args):
    if args.manifest:
        fixtures = pathlib.Path(args.fixtures)
        folder = fixtures if fixtures.is_dir() else fixtures.parent
        name = "fixtures.json" if fixtures.is_dir() else fixtures.name
        return [Case(folder, manifest=args.manifest, config=args.config, state=args.state, fixtures=name)]
    return all_cases(args.only)


def main():
    args = arguments()
    if args.selftest:
        import selftest

        sys.exit(selftest.main())
    cases = chosen_cases(args)
    if args.remember:
        for case in cases:
            faults = faults_of_fixtures(case, expected(case, args.fresh))
            print(f"{'BAD ' if faults else 'ok  '} {case.name} {'; '.join(faults)}", flush=True)
        return
    differing, known = [], []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for case, (agree, text) in zip(cases, pool.map(lambda case: check(case, args.ours, args.verbose, args.fresh), cases)):
            reason = case.settings.get("differs")
            # A known difference that is gone has to be struck out, so that the list stays true.
            if reason and agree:
                agree, text = False, f"{text}\n     case.json says that it differs ({reason}), and it agrees: remove `differs`"
            elif reason:
                known.append(case.name)
                agree, text = True, f"known {case.name}: {reason}"
            print(text, flush=True)
            differing += [] if agree else [case.name]
    if known:
        print(f"{len(known)} differ as is known: {', '.join(known)}")
    print(f"{len(cases) - len(differing)} of {len(cases)} cases agree" + (f"; not: {', '.join(differing)}" if differing else ""))
    sys.exit(1 if differing or not cases else 0)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
