#!/usr/bin/env python3
"""Tests of the harness's pure part; tests/library/cost.rs runs them."""

import json
import random
import sys
import unittest

sys.dont_write_bytecode = True
import result  # noqa: E402

WRK = """Running 1s test @ https://localhost:4433/
  1 threads and 50 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.01ms    1.02ms  18.22ms   92.17%
    Req/Sec    25.31k     1.80k   27.20k    80.00%
  25221 requests in 1.00s, 9.50MB read
"""
H2LOAD = """starting benchmark...
finished in 1.00s, 21034.00 req/s, 7.90MB/s
requests: 21034 total, 21084 started, 21034 done, 21030 succeeded, 4 failed, 3 errored, 0 timeout
status codes: 21034 2xx, 0 3xx, 0 4xx, 0 5xx
"""
S_TIME = """Collecting connection statistics for 1 seconds
****
1042 connections in 0.87s; 1197.70 connections/user sec, bytes read 0
1042 connections in 2 real seconds, 0 bytes read per connection
"""
TLS_PERF = """========================================
 TOTAL:           SECONDS 9; HANDSHAKES 16044
 HANDSHAKES/sec:  MAX 1906; AVG 1782; 95P 1691; MIN 1691
"""
STATUS = """Active connections: 51
server accepts handled requests
 16630 16630 31070
Reading: 0 Writing: 1 Waiting: 50
"""
K6 = """
    http_req_failed................: 0.02%  1 out of 3340
    http_reqs......................: 3340   167.01/s
"""


def entry(tool, cpu_s, number=1, row="closed", size="50", server="nginx", **more):
    """Makes an entry of a run that used so much CPU for 10,000 requests."""
    return {
        "row": row,
        "server": server,
        "size": size,
        "tool": tool,
        "round": number,
        "user_s": cpu_s / 4,
        "system_s": cpu_s * 3 / 4,
        "peak_rss_kib": 10_000,
        "requests": 10_000,
        "connections": 50,
        "claimed": 10_000,
        "held": None,
        "counted": None,
        "others_share": 0.01,
        "steal_share": 0.002,
        "doubt": None,
        **more,
    }


ABOUT = {
    "date": "2026-01-02",
    "command": "tools/cost/run",
    "minutes": 3,
    "machine": "2 × a processor",
    "server_cpus": "0",
    "client_cpus": "1",
    "versions": {"certctl-bench": "1234567", "wrk": "4.1.0"},
    "missing": {"k6": "not found"},
    "ended": None,
    "seconds": {"closed": 10, "handshake": 10, "held": 75, "open 167/s": 20},
}


def made(*entries):
    return result.Result({"about": ABOUT, "rounds": list(entries)})


class Reading(unittest.TestCase):
    def test_what_each_tool_prints(self):
        self.assertEqual(result.read_wrk(WRK), {"claimed": 25221, "failed": 0})
        broken = WRK + "  Socket errors: connect 1, read 2, write 0, timeout 4\n  Non-2xx or 3xx responses: 8\n"
        self.assertEqual(result.read_wrk(broken)["failed"], 15)
        self.assertEqual(result.read_h2load(H2LOAD), {"claimed": 21030, "failed": 7})
        self.assertEqual(result.read_s_time(S_TIME), {"claimed": 1042, "failed": 0})
        self.assertEqual(result.read_tls_perf(TLS_PERF), {"claimed": 16044, "failed": 0})
        self.assertEqual(result.read_k6(K6), {"claimed": 3340, "failed": 1})
        oha = {
            "statusCodeDistribution": {"200": 90, "502": 4},
            "errorDistribution": {"aborted due to deadline": 3, "connection closed": 2},
        }
        self.assertEqual(result.read_oha(json.dumps(oha)), {"claimed": 94, "failed": 6})
        self.assertEqual(result.read_stub_status(STATUS), {"active": 51, "connections": 16630, "requests": 31070})

    def test_a_summary_of_ours(self):
        lag = {"p50_us": 71.0, "p99_us": 152.5}
        workload = {
            "plan": {"model": "open"},
            "results": {
                "outcomes": [{"outcome": "ok", "count": 9}, {"outcome": "failed 500", "count": 1}],
                "arrivals": {"late": 1, "unsent": 2},
                "latency": {"schedule_lag": lag},
            },
        }
        summary = {
            "workloads": [workload],
            "generator": {"scheduling": "SCHED_OTHER"},
            "verdict": "pass",
            "invalid": [],
        }
        self.assertEqual(
            result.read_ours(summary),
            {
                "claimed": 9,
                "failed": 1,
                "verdict": "pass",
                "invalid": [],
                "scheduling": "SCHED_OTHER",
                "late": 1,
                "unsent": 2,
                "lag_p50_us": 71.0,
                "lag_p99_us": 152.5,
            },
        )
        workload["plan"]["model"] = "closed"
        self.assertNotIn("lag_p99_us", result.read_ours(summary))

    def test_events_that_are_not_counted_are_left_out(self):
        text = "# started\n\n<not supported>,,instructions:u,0,100.00,,\n29,,raw_syscalls:sys_enter,150,100.00,,\n"
        self.assertEqual(result.read_perf(text), {"raw_syscalls:sys_enter": 29})


class Arithmetic(unittest.TestCase):
    def test_costs_are_for_a_unit_of_work(self):
        self.assertAlmostEqual(result.figures(entry("wrk", 2.0))["cost"], 200)
        self.assertAlmostEqual(result.figures(entry("oha", 2.0, row="open"))["cost"], 2)
        handshakes = entry("wrk", 2.0, row="handshake", connections=4_000)
        self.assertAlmostEqual(result.figures(handshakes)["cost"], 500)
        self.assertIsNone(result.figures(entry("wrk", 2.0, row="handshake", connections=0))["cost"])

    def test_the_median_is_between_the_least_and_the_greatest(self):
        numbers = random.Random(1)
        for _ in range(200):
            values = [numbers.uniform(0, 9) for _ in range(numbers.randint(1, 9))]
            least, middle, most = result.spread(values)
            self.assertTrue(least <= middle <= most)
            self.assertTrue(sum(value <= middle for value in values) * 2 >= len(values))

    def test_numbers_have_three_digits_that_count(self):
        for value, text in [
            (0, "0"),
            (0.0123, "0.012"),
            (0.456, "0.46"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (99.96, "100"),
            (12345.6, "12,346"),
        ]:
            self.assertEqual(result.rounded(value), text)
        self.assertEqual(result.ranged([2, 1, 4], "s"), "2.00 s (1.00 … 4.00)")
        self.assertEqual(result.ranged([2]), "2.00")

    def test_ratios_are_of_one_round(self):
        # The machine was twice as slow in the second round, for both.
        both = made(
            entry(result.OURS, 1),
            entry("wrk", 2),
            entry(result.OURS, 2, 2),
            entry("wrk", 4, 2),
            entry("wrk", 9, 3),
            entry(result.OURS, 9, 0, counted={"instructions:u": 5.0}),
        )
        ours, wrk = (("closed", "nginx", "50", tool) for tool in (result.OURS, "wrk"))
        self.assertEqual(both.ratios(ours, wrk), [0.5, 0.5])
        self.assertEqual(both.values(ours, "cost"), [100, 200])
        self.assertEqual(both.system_calls(ours), {"instructions:u": 0.0005})

    def test_memory_of_a_connection_is_beyond_that_of_fifty(self):
        held = made(
            entry("oha", 1, row="open", size="167/s", peak_rss_kib=20_000),
            entry("oha", 1, row="held", size="5000", peak_rss_kib=69_500, held=5_000),
        )
        per_connection = held.values(("held", "nginx", "5000", "oha"), "kib_per_connection")
        self.assertEqual(len(per_connection), 1)
        self.assertAlmostEqual(per_connection[0], 10)

    def test_loads_that_are_measured_anew_replace_what_there_was(self):
        earlier = {"about": ABOUT, "rounds": [entry("wrk", 1), entry("oha", 2, row="open", size="167/s")]}
        later = {"about": {**ABOUT, "command": "again", "versions": {"wrk": "5"}}, "rounds": [entry("h2load", 3)]}
        about, rounds = result.merged(earlier, later)
        self.assertEqual([one["tool"] for one in rounds], ["oha", "h2load"])
        self.assertEqual((about["command"], about["minutes"]), ("tools/cost/run; again", 6))
        self.assertEqual(about["versions"], {"certctl-bench": "1234567", "wrk": "5"})
        # The same load once more.
        about, _ = result.merged({"about": about, "rounds": rounds}, later)
        self.assertEqual(about["command"], "tools/cost/run; again")


class Tables(unittest.TestCase):
    def test_ours_stands_before_the_others_of_its_load(self):
        loads = [("oha", "167/s"), (result.OURS, "167/s"), ("oha", "2,000/s"), (f"{result.OURS} 1234", "2,000/s")]
        cells = made(*(entry(tool, 1, row="open", size=size) for tool, size in loads)).ordered("open")
        self.assertEqual(
            [cell[2:] for cell in cells],
            [("167/s", result.OURS), ("167/s", "oha"), ("2,000/s", f"{result.OURS} 1234"), ("2,000/s", "oha")],
        )

    def test_goals_are_of_the_median_ratio(self):
        rows = result.comparison(made(entry(result.OURS, 1.2), entry("wrk", 2), entry("oha", 3))).splitlines()
        self.assertEqual(
            rows[0], "| load | server | tool | CPU | peak RSS MB | system calls | ours ÷ tool | goal | reached |"
        )
        self.assertEqual(rows[1], "|---|---|---|---:|---:|---:|---:|---|---|")
        self.assertEqual(
            rows[3],
            "| closed loop, 50 connections, keep-alive | nginx | wrk | 200 ms/1,000 requests | 10.2 |  "
            "| 0.60 | ≤ 0.65 | yes |",
        )
        self.assertTrue(rows[4].endswith("| 0.40 |  |  |"))
        rows = result.comparison(made(entry(result.OURS, 1.4), entry("wrk", 2))).splitlines()
        self.assertTrue(rows[3].endswith("| 0.70 | ≤ 0.65 | no |"))

    def test_the_floor_excuses_what_it_forbids(self):
        def rows(ours, oha, floor):
            loads = made(
                entry(result.OURS, ours, row="open", size="167/s"),
                entry("oha", oha, row="open", size="167/s"),
                entry(result.FLOOR, floor, row="open", size="167/s", server="nginx, no TLS"),
            )
            return result.comparison(loads).splitlines()[3]

        self.assertTrue(rows(0.49, 1.0, 0.6).endswith("| ≤ 0.5 | yes |"))
        self.assertTrue(rows(0.70, 1.0, 0.6).endswith("| ≤ 0.5, or 1.25 × floor | yes |"))
        self.assertTrue(rows(0.80, 1.0, 0.6).endswith("| ≤ 0.5, or 1.25 × floor | no |"))
        self.assertTrue(rows(0.55, 1.0, 0.4).endswith("| ≤ 0.5 | no |"))

    def test_bounds_and_growth(self):
        ours = [
            entry(result.OURS, 1, number, row="open", size="167/s", lag_p99_us=lag)
            for number, lag in enumerate((150.0, 190.0, 900.0), 1)
        ]
        self.assertIn(
            "| schedule lag p99 at 167/s, nginx | 190 µs (150 … 900) | ≤ 200 µs | yes |", result.bounds(made(*ours))
        )
        floor = entry("floor, timerfd", 1, row="open", size="167/s", server="nginx, no TLS", lag_p99_us=300.0)
        self.assertIn("| … of the floor, timerfd | 300 µs |  |  |", result.bounds(made(*ours, floor)))
        grown = entry(result.OURS, 1, row="grows with rate", size="1,000/s", lag_p99_us=88.0, late=3, unsent=1)
        self.assertIn("| rate | 1,000/s | 1.00 s | 100 | 10.2 | 88.0 | 4 |", result.growth(made(grown)))

    def test_the_whole_names_versions_and_what_is_missing(self):
        text = result.markdown(json.dumps({"about": ABOUT, "rounds": [entry(result.OURS, 1), entry("wrk", 2)]}))
        self.assertIn("Versions: certctl-bench 1234567 · wrk 4.1.0.", text)
        self.assertIn("Not measured: k6: not found.", text)
        self.assertNotIn("Doubtful", text)
        # Tables without a row are left out.
        self.assertNotIn("grows with", text)
        self.assertEqual(text.count("\n|---"), 2)

    def test_doubtful_runs_are_named(self):
        text = result.header(made(entry("wrk", 1), entry("oha", 2, doubt="exit code 1")))
        self.assertIn("Doubtful: closed nginx 50 oha, round 1: exit code 1.", text)

    def test_tables_are_put_between_the_two_comments(self):
        text = json.dumps({"about": ABOUT, "rounds": [entry("wrk", 2)]})
        document = f"before\n{result.BEGIN}old\n{result.END}\nafter\n"
        once = result.spliced(document, text)
        self.assertEqual(once, f"before\n{result.BEGIN}\n{result.markdown(text)}\n{result.END}\nafter\n")
        self.assertEqual(result.spliced(once, text), once)
        with self.assertRaises(ValueError):
            result.spliced("no place", text)


if __name__ == "__main__":
    unittest.main()
