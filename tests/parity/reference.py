"""Runs the reference, airbyte-cdk, on one manifest, and prints what it did as JSON lines on standard output.

    reference.py --manifest FILE --config FILE [--state FILE] [--catalog FILE] [--stream NAME…] --map FROM=TO… --now MICROSECONDS

Lines: {"type":"record","stream","data","partition"}, {"type":"state","stream","state"}, {"type":"error","kind","stream","message"},
{"type":"config","config"}, {"type":"wait","stream","seconds"}, {"type":"schema","stream","schema"}. The API's side of requests is the mock server's to record.
Adapts the reference from outside only: the clock, where requests go, and the order in which partitions are read (one after another, as
they were generated, so that a run can be compared with itself). Nothing of its semantics is changed; `--wrong` does so on purpose.
"""
import argparse
import io
import json
import logging
import os
import sys
import tempfile
import threading
import urllib.parse

import orjson
import requests
import yaml
from airbyte_cdk.entrypoint import AirbyteEntrypoint
from airbyte_cdk.models import (
    AirbyteStateBlob,
    AirbyteStateMessage,
    AirbyteStateType,
    AirbyteStream,
    AirbyteStreamState,
    ConfiguredAirbyteCatalog,
    ConfiguredAirbyteStream,
    DestinationSyncMode,
    StreamDescriptor,
    SyncMode,
)
from airbyte_cdk.sources.concurrent_source import concurrent_read_processor, thread_pool_manager
from airbyte_cdk.sources.declarative.concurrent_declarative_source import ConcurrentDeclarativeSource
from airbyte_cdk.sources.streams.concurrent.partition_reader import PartitionReader
from airbyte_cdk.sources.streams.http import http_client
from airbyte_cdk.utils.traced_exception import AirbyteTracedException

import clock

WHERE = threading.local()
LOCK = threading.Lock()
KINDS = {"config_error": "config", "system_error": "system", "transient_error": "transient"}


class Output:
    """The real standard output. The reference's own prints and logs go elsewhere."""

    def __init__(self):
        self._file = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        self.printed = sys.stdout = io.StringIO()

    def line(self, **fields):
        with LOCK:
            self._file.write(json.dumps(fields) + "\n")

    def close(self):
        self._file.close()


def led_to(maps, request):
    """Where a request goes, and its `Host`: all to one mock with the original URL as the path, or origin by origin."""
    scheme, _, rest = request.url.partition("://")
    if "*" in maps:
        return f"{maps['*']}/{scheme}/{rest}", None
    host, slash, path = rest.partition("/")
    return maps[f"{scheme}://{host}"] + slash + path, host


def redirect(maps, wrong):
    """Sends every request to the mock API, with a note of the partition that it is for."""
    original = requests.adapters.HTTPAdapter.send

    def send(self, request, **kwargs):
        asked = request.url
        sent = request.copy()
        sent.url, host = led_to(maps, request)
        if host:
            sent.headers["Host"] = host
        if wrong == "request":
            sent.url += ("&" if "?" in asked else "?") + "extra=1"
        sent.headers["X-Parity-Partition"] = urllib.parse.quote(getattr(WHERE, "partition", ""))
        kwargs.update(proxies={}, verify=False)
        response = original(self, sent, **kwargs)
        response.url, response.request = asked, request
        return response

    requests.adapters.HTTPAdapter.send = send
    serialize_cached_requests()


def serialize_cached_requests():
    """Two threads that miss the cache at once would both send the request, or not, by chance."""
    original, lock = http_client.CachedLimiterSession.send, threading.RLock()

    def send(self, request, **kwargs):
        with lock:
            return original(self, request, **kwargs)

    http_client.CachedLimiterSession.send = send


def read_partitions_in_turn():
    """Partitions are read one after another in the order of their generation; records know the partition they came from."""
    submit, process = thread_pool_manager.ThreadPoolManager.submit, PartitionReader.process_partition
    on_record = concurrent_read_processor.ConcurrentReadProcessor.on_record
    turn, numbers, turns = threading.Condition(), {}, {"given": 0, "now": 0}

    def numbered_submit(self, function, *args):
        if getattr(function, "__name__", "") == "turn_taking":
            numbers[id(args[0])] = turns["given"]
            turns["given"] += 1
        submit(self, function, *args)

    def turn_taking(self, partition, cursor):
        number = numbers[id(partition)]
        with turn:
            turn.wait_for(lambda: turns["now"] == number)
        WHERE.partition = f"{partition.stream_name()} {number}"
        try:
            process(self, partition, cursor)
        finally:
            WHERE.partition = ""
            with turn:
                turns["now"] += 1
                turn.notify_all()

    def with_partition(self, record):
        for message in on_record(self, record):
            if message.record is not None:
                object.__setattr__(message, "parity_partition", json.dumps(record.associated_slice, default=str, sort_keys=True))
            yield message

    thread_pool_manager.ThreadPoolManager.submit = numbered_submit
    PartitionReader.process_partition = turn_taking
    concurrent_read_processor.ConcurrentReadProcessor.on_record = with_partition


def stream_now():
    """The stream whose partition this thread reads, if any."""
    return getattr(WHERE, "partition", "").rpartition(" ")[0] or None


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--state")
    parser.add_argument("--catalog")
    parser.add_argument("--stream", action="append", default=[])
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--map", action="append", required=True)
    parser.add_argument("--now", type=int, required=True)
    parser.add_argument("--schemas", action="store_true")
    parser.add_argument("--wrong", choices=["request", "record", "order", "type", "state", "error", "missing"])
    return parser.parse_args()


def state_messages(file):
    """The reference's form of `{stream: state}`."""
    given = json.load(open(file)) if file else {}
    return [
        AirbyteStateMessage(
            type=AirbyteStateType.STREAM,
            stream=AirbyteStreamState(stream_descriptor=StreamDescriptor(name=name), stream_state=AirbyteStateBlob(state)),
        )
        for name, state in given.items()
    ]


def configured(entries):
    streams = [
        ConfiguredAirbyteStream(
            stream=AirbyteStream(
                name=entry["name"], json_schema=entry.get("json_schema", {}), supported_sync_modes=[SyncMode.full_refresh, SyncMode.incremental]
            ),
            sync_mode=SyncMode(entry.get("sync_mode", "incremental")),
            destination_sync_mode=DestinationSyncMode.append,
            cursor_field=entry.get("cursor_field"),
        )
        for entry in entries
    ]
    return ConfiguredAirbyteCatalog(streams=streams)


def plain(value):
    """What the reference's serializer makes of a value that JSON does not have."""
    return orjson.loads(orjson.dumps(value))


class Reference:
    """One manifest with its configuration; each call of `source` builds it anew."""

    def __init__(self, args, out):
        self.args, self.out = args, out
        self.manifest = yaml.safe_load(open(args.manifest))
        self.config = json.load(open(args.config))
        self.config_file = tempfile.NamedTemporaryFile("w", suffix=".json")
        json.dump(self.config, self.config_file)
        self.config_file.flush()
        self.logger = logging.getLogger("airbyte")
        self.failed = False

    def source(self, catalog=None):
        return ConcurrentDeclarativeSource(
            catalog=catalog, config=dict(self.config), state=state_messages(self.args.state), source_config=self.manifest,
            config_path=self.config_file.name,
        )

    def entries(self):
        """The streams to read, as entries of a catalog."""
        if self.args.catalog:
            return json.load(open(self.args.catalog))["streams"]
        if self.args.stream:
            return [{"name": name} for name in self.args.stream]
        if "dynamic_streams" in self.manifest or any("name" not in s for s in self.manifest.get("streams", [])):
            return [{"name": stream.name} for stream in self.source().streams(self.config)]
        return [{"name": stream["name"]} for stream in self.manifest["streams"]]

    def read(self):
        catalog = configured(self.entries())
        source = self.source(catalog)
        entrypoint = AirbyteEntrypoint(source)
        spec = source.spec(self.logger) if self.manifest.get("spec") else None
        config = source.configure(self.config, tempfile.gettempdir())
        if spec is not None:
            AirbyteEntrypoint.validate_connection(spec, config)
        for message in source.read(self.logger, config, catalog, None):
            self.message(entrypoint, message)
        for message in entrypoint._emit_queued_messages(source):
            self.message(entrypoint, message)

    def message(self, entrypoint, message):
        if message.record is not None:
            # Not through the reference's serializer: it leaves out top-level fields that are null.
            data = json.loads(json.dumps(message.record.data, default=plain))
            self.out.line(type="record", stream=message.record.stream, data=data, partition=message.parity_partition)
            return
        value = json.loads(entrypoint.airbyte_message_to_string(message))
        if value["type"] == "STATE":
            stream = value["state"]["stream"]
            self.out.line(type="state", stream=stream["stream_descriptor"]["name"], state=stream["stream_state"])
        elif value["type"] == "TRACE" and value["trace"]["type"] == "ERROR":
            self.error(value["trace"]["error"])
        elif value["type"] == "CONTROL":
            self.out.line(type="config", config=value["control"]["connectorConfig"]["config"])

    def error(self, error):
        stream = (error.get("stream_descriptor") or {}).get("name")
        internal = error.get("internal_message")
        self.failed = True
        self.out.line(type="error", kind=KINDS[error["failure_type"]], stream=stream, message=error["message"], internal=internal)

    def schemas(self):
        for stream in self.source().streams(self.config):
            self.out.line(type="schema", stream=stream.name, schema=stream.as_airbyte_stream().json_schema)


def main():
    args = arguments()
    logging.disable(logging.CRITICAL)
    out = Output()
    if args.wrong:
        import wrong

        out = wrong.Wrong(out, args.wrong)
    redirect(dict(pair.split("=", 1) for pair in args.map), args.wrong)
    read_partitions_in_turn()
    clock.install(clock.Clock(args.now, lambda seconds: out.line(type="wait", stream=stream_now(), seconds=seconds)))
    reference = Reference(args, out)
    try:
        if args.schemas:
            reference.schemas()
        else:
            reference.read()
    except AirbyteTracedException as error:
        if not reference.failed:
            kind = KINDS[error.failure_type.value]
            out.line(type="error", kind=kind, stream=None, message=error.message, internal=error.internal_message)
    except Exception as error:
        # The reference has no kind for what it does not foresee, so there is none to compare.
        if not reference.failed:
            why = f"{type(error).__name__}: {error}"
            out.line(type="error", kind="any", stream=None, message=why, internal=str(error.__cause__)[:2000])
    for text in out.printed.getvalue().splitlines():
        if '"type":"CONTROL"' in text.replace(" ", ""):
            out.line(type="config", config=json.loads(text)["control"]["connectorConfig"]["config"])
    # Threads of a failed read may wait for work for ever.
    out.close()
    os._exit(0)


if __name__ == "__main__":
    main()
