"""Reads exports of certctl-bench with other people's readers, and prints what they read as JSON.

    read.py hlog|openmetrics|junit|csv|otlp FILE
"""

import csv
import json
import sys


def hlog(path):
    from hdrh.histogram import HdrHistogram
    from hdrh.log import HistogramLogReader

    reader = HistogramLogReader(path, HdrHistogram(1, 600_000_000, 2))
    intervals = []
    while (found := reader.get_next_interval_histogram()) is not None:
        intervals.append({
            "tag": found.get_tag(),
            "start_ms": found.get_start_time_stamp(),
            "end_ms": found.get_end_time_stamp(),
            "count": found.get_total_count(),
            "p50": found.get_value_at_percentile(50),
            "p95": found.get_value_at_percentile(95),
            "max": found.get_max_value(),
        })
    return intervals


def openmetrics(path):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    with open(path, encoding="utf-8", newline="") as file:
        families = list(text_string_to_metric_families(file.read()))
    return [
        {
            "name": family.name,
            "type": family.type,
            "unit": family.unit,
            "help": family.documentation,
            "samples": [
                {"name": sample.name, "labels": sample.labels, "value": sample.value} for sample in family.samples
            ],
        }
        for family in families
    ]


def junit(path):
    from junitparser import JUnitXml

    return [
        {
            "name": suite.name,
            "tests": suite.tests,
            "failures": suite.failures,
            "errors": suite.errors,
            "skipped": suite.skipped,
            "time": suite.time,
            "properties": {one.name: one.value for one in suite.properties()},
            "cases": [
                {
                    "class": case.classname,
                    "name": case.name,
                    "time": case.time,
                    "results": [[type(result).__name__, result.message] for result in case.result],
                }
                for case in suite
            ],
        }
        for suite in JUnitXml.fromfile(path)
    ]


def csv_(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def otlp(path):
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    with open(path, "rb") as file:
        return MessageToDict(ExportMetricsServiceRequest.FromString(file.read()))


if __name__ == "__main__":
    kind, path = sys.argv[1:]
    read = {"hlog": hlog, "openmetrics": openmetrics, "junit": junit, "csv": csv_, "otlp": otlp}[kind]
    json.dump(read(path), sys.stdout)
