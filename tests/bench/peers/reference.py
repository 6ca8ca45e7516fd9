"""Reads every page by the reference implementation and counts: extraction alone. Arguments: manifest, URL."""

import json
import logging
import resource
import sys
import time

import yaml
from airbyte_cdk.models import ConfiguredAirbyteCatalog, ConfiguredAirbyteCatalogSerializer, Type
from airbyte_cdk.sources.declarative.concurrent_declarative_source import ConcurrentDeclarativeSource


def main() -> None:
    manifest = yaml.safe_load(open(sys.argv[1]))
    config = {"url": sys.argv[2]}
    logging.disable(logging.CRITICAL)
    stream = {"name": "issues", "json_schema": {}, "supported_sync_modes": ["full_refresh"]}
    catalog: ConfiguredAirbyteCatalog = ConfiguredAirbyteCatalogSerializer.load(
        {"streams": [{"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "append"}]}
    )
    source = ConcurrentDeclarativeSource(catalog=catalog, config=config, state=[], source_config=manifest)
    started = time.monotonic()
    records = sum(1 for message in source.read(logging.getLogger("bench"), config, catalog, []) if message.type == Type.RECORD)
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"records": records, "seconds": seconds, "peak_mib": peak}))


main()
