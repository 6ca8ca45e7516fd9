"""Loads every page into PostgreSQL by dlt's REST source. Arguments: URL of the pages, URL of the database, scratch folder."""

import json
import os
import resource
import sys
import time

os.environ["RUNTIME__LOG_LEVEL"] = "CRITICAL"
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["DLT_DATA_DIR"] = sys.argv[3]

import dlt
from dlt.sources.rest_api import rest_api_source


def main() -> None:
    paginator = {"type": "page_number", "base_page": 1, "page_param": "page", "total_path": None}
    source = rest_api_source(
        {"client": {"base_url": sys.argv[1], "paginator": paginator}, "resources": [{"name": "issues", "endpoint": {"path": "issues"}}]}
    )
    pipeline = dlt.pipeline("bench", destination=dlt.destinations.postgres(sys.argv[2]), dataset_name="bench", pipelines_dir=sys.argv[3])
    started = time.monotonic()
    pipeline.run(source)
    seconds = time.monotonic() - started
    records = pipeline.last_trace.last_normalize_info.row_counts["issues"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"records": records, "seconds": seconds, "peak_mib": peak}))


main()
