"""The pure part of the harness: reading what tools print, medians and ranges, and the tables of docs/PERFORMANCE.md.

A result is what `run` writes as JSON: `about` (machine, versions, settings) and `rounds`, one entry for each run of a
tool, in the order in which they took place. An entry has the key of its cell (`row`, `server`, `tool`, `size`), its
round, and what was measured.
"""

import json
import re
import statistics

OURS = "certctl-bench"

# A row's unit of work: its name, how many of it a cost is given for, and the count in an entry.
UNITS = {
    "closed": ("1,000 requests", 1_000, "requests"),
    "handshake": ("1,000 handshakes", 1_000, "connections"),
    "open": ("run", None, None),
    "held": ("run", None, None),
}
# The goals of ratios: ours to a tool, at most.
RATIOS = {
    ("closed", "wrk"): 0.65,
    ("handshake", "openssl s_time"): 0.35,
    ("handshake", "tls-perf"): 0.5,
    ("open", "oha"): 0.5,
}
# Within this of the floor an open workload is good enough, where the floor itself costs more than half of oha.
FLOOR, FLOOR_RATIO = "floor, timerfd", 1.25
# The goals of absolute figures of ours: row and size, figure, bound, unit and what it is.
BOUNDS = [
    ("closed", "50", "peak_rss_mb", 12, "MB", "peak RSS, closed loop, 50 connections"),
    ("open", "167/s", "lag_p99_us", 200, "µs", "schedule lag p99 at 167/s"),
    ("held", "5000", "cpu_s", 3, "s", "CPU for 5,000 connections, opened and held for 75 s"),
    ("held", "5000", "kib_per_connection", 6, "KiB", "RSS of each of 5,000 connections"),
    ("closed", "50", "cost", 13.3, "ms", "CPU of 1,000 keep-alive requests (75,000/s of a processor)"),
    ("handshake", "TLS 1.3, P-256", "cost", 333, "ms", "CPU of 1,000 verified full handshakes (3,000/s of a processor)"),
    ("grows with connections", "50,000", "peak_rss_mb", 350, "MB", "peak RSS with 50,000 agents"),
    ("grows with connections", "50,000", "lag_p99_us", 1_000, "µs", "schedule lag p99 with 50,000 agents"),
]


def number(text):
    """Returns the number in a text that may have separators of thousands."""
    return int(text.replace(",", ""))


def found(pattern, text):
    """Returns the number that the first group of the pattern finds, or None."""
    match = re.search(pattern, text)
    return number(match.group(1)) if match else None


def read_version(output):
    shown = re.search(r"\d+\.\d+[\w.+-]*", output)
    return shown.group() if shown else "unknown"


def read_wrk(output):
    broken = re.search(r"Socket errors: (.*)", output)
    failed = [found(r"Non-2xx or 3xx responses: (\d+)", output) or 0]
    failed += [number(one) for one in re.findall(r"\d+", broken.group(1))] if broken else []
    return {"claimed": found(r"(\d+) requests in", output), "failed": sum(failed)}


def read_oha(output):
    """Reads oha's JSON. Requests that its deadline cut off are no failures of the server."""
    result = json.loads(output)
    answers = result["statusCodeDistribution"]
    errors = {what: count for what, count in result["errorDistribution"].items() if "deadline" not in what}
    failed = sum(count for status, count in answers.items() if status != "200") + sum(errors.values())
    return {"claimed": sum(answers.values()), "failed": failed}


def read_h2load(output):
    failed = [found(rf"(\d+) {what}", output) or 0 for what in ("failed", "errored", "timeout")]
    return {"claimed": found(r"(\d+) succeeded", output), "failed": sum(failed)}


def read_s_time(output):
    return {"claimed": found(r"(\d+) connections in [\d.]+s;", output), "failed": 0}


def read_tls_perf(output):
    return {"claimed": found(r"HANDSHAKES (\d+)", output), "failed": 0}


def read_k6(output):
    passed, failed = found(r"http_reqs\D*(\d+)", output), found(r"http_req_failed.*?(\d+) out of", output)
    return {"claimed": passed, "failed": failed or 0}


def read_nothing(_output):
    """vegeta writes its results to a file of its own, which nobody reads here; the server's count is used."""
    return {}


def read_floor(output):
    result = json.loads(output)
    lags = {name: value for name, value in result.items() if name.startswith("lag_")}
    return {"claimed": result["requests"], "failed": 0, **lags}


def read_ours(summary):
    """Reads a summary.json of this suite, of its one workload."""
    results, generator = summary["workloads"][0]["results"], summary["generator"]
    outcomes = {one["outcome"]: one["count"] for one in results["outcomes"]}
    entry = {
        "claimed": outcomes.get("ok", 0),
        "failed": sum(count for outcome, count in outcomes.items() if outcome != "ok"),
        "verdict": summary["verdict"],
        "invalid": summary["invalid"],
        "scheduling": generator["scheduling"],
        "late": results["arrivals"]["late"],
        "unsent": results["arrivals"]["unsent"],
    }
    lag = results["latency"]["schedule_lag"]
    if summary["workloads"][0]["plan"]["model"] == "open":
        entry.update(
            {f"lag_{quantile}_us": lag[f"{quantile}_us"] for quantile in ("p50", "p99") if lag.get(f"{quantile}_us")}
        )
    return entry


def read_stub_status(text):
    """Returns nginx's counts: open connections, connections taken, requests."""
    active = found(r"Active connections: (\d+)", text)
    accepted, _handled, requests = (int(one) for one in re.search(r"\n *(\d+) (\d+) (\d+)", text).groups())
    return {"active": active, "connections": accepted, "requests": requests}


def read_perf(text):
    """Returns the counts of `perf stat -x,`; events that the machine does not count are left out."""
    counts = {}
    for line in text.splitlines():
        cells = line.split(",")
        if len(cells) > 3 and re.fullmatch(r"[\d.]+", cells[0]):
            counts[cells[2]] = float(cells[0])
    return counts


def merged(earlier, later):
    """Returns what a result is about, and its rounds, after loads were measured anew, which replace what it had."""
    anew = {(entry["row"], entry["server"], entry["size"]) for entry in later["rounds"]}
    kept = [entry for entry in earlier["rounds"] if (entry["row"], entry["server"], entry["size"]) not in anew]
    old, new = earlier["about"], later["about"]
    commands = dict.fromkeys([*old["command"].split("; "), new["command"]])
    about = {**new, "command": "; ".join(commands), "minutes": old["minutes"] + new["minutes"]}
    for name in ("versions", "missing", "seconds"):
        about[name] = old[name] | new[name]
    return about, kept + later["rounds"]


def key(entry):
    return entry["row"], entry["server"], entry["size"], entry["tool"]


def figures(entry):
    """Returns what a table shows of an entry: costs per unit, and peak memory in MB (10^6 bytes)."""
    cpu_s = entry["user_s"] + entry["system_s"]
    shown = {"cpu_s": cpu_s, "peak_rss_mb": entry["peak_rss_kib"] * 1_024 / 1e6}
    _, per, count = UNITS.get(entry["row"], UNITS["open"])
    done = entry.get("requests") or entry.get("claimed")
    if per:
        done = entry[count]
        shown["cost"] = cpu_s * 1e3 / done * per if done else None
    else:
        shown["cost"] = cpu_s
    if done:
        shown["us_per_request"] = cpu_s * 1e6 / done
    for name in ("lag_p50_us", "lag_p99_us"):
        if entry.get(name) is not None:
            shown[name] = entry[name]
    return shown


def spread(values):
    """Returns the least, the median and the greatest of some values."""
    return min(values), statistics.median(values), max(values)


def rounded(value):
    """Writes a number with three digits that count, and no more than it needs."""
    if value == 0:
        return "0"
    for bound, digits in ((99.95, 0), (9.995, 1)):
        if abs(value) >= bound:
            return f"{value:,.{digits}f}"
    return f"{value:.2f}" if abs(value) >= 0.0995 else f"{value:.3f}"


def ranged(values, unit=""):
    """Writes a median, with its range where there are several values."""
    least, middle, most = spread(values)
    unit = unit and f" {unit}"
    return f"{rounded(middle)}{unit}" + (f" ({rounded(least)} … {rounded(most)})" if len(values) > 1 else "")


class Result:
    """A result, by cell."""

    def __init__(self, result):
        self.about = result["about"]
        self.cells = {}
        for entry in result["rounds"]:
            self.cells.setdefault(key(entry), []).append(entry)

    def ordered(self, row):
        """Returns the cells of a row: as they were measured first, but ours before the others of its load."""
        cells = [cell for cell in self.cells if cell[0] == row]
        loads = list(dict.fromkeys(cell[1:3] for cell in cells))
        return sorted(cells, key=lambda cell: (loads.index(cell[1:3]), not cell[3].startswith(OURS)))

    def values(self, cell, figure):
        """Returns a figure of every round of a cell that has it."""
        if figure == "kib_per_connection":
            return self.kib_per_connection(cell)
        shown = [figures(entry).get(figure) for entry in self.cells.get(cell, []) if not entry["counted"]]
        return [value for value in shown if value is not None]

    def kib_per_connection(self, cell):
        """Returns the memory that each held connection takes, beyond that of the tool with 50 connections."""
        _, server, size, tool = cell
        few = self.values(("open", server, "167/s", tool), "peak_rss_mb")
        held = [entry for entry in self.cells.get(cell, []) if not entry["counted"]]
        base = statistics.median(few) * 1e6 / 1_024 if few else 0
        return [
            (entry["peak_rss_kib"] - base) / (entry["held"] - (50 if few else 0))
            for entry in held
            if entry["held"] > 50
        ]

    def ratios(self, cell, other):
        """Returns the cost of a cell to that of another, round by round: what ran within minutes of one another."""
        of = {entry["round"]: figures(entry)["cost"] for entry in self.cells.get(other, []) if not entry["counted"]}
        pairs = [(figures(entry)["cost"], of.get(entry["round"])) for entry in self.cells[cell] if not entry["counted"]]
        return [ours / theirs for ours, theirs in pairs if ours and theirs]

    def system_calls(self, cell):
        """Returns the system calls and instructions of a unit of work, from the round that counted them."""
        for entry in self.cells.get(cell, []):
            count = UNITS[cell[0]][2] or "requests"
            done = entry.get(count) or entry.get("claimed")
            if entry["counted"] and done:
                return {event: value / done for event, value in entry["counted"].items()}
        return {}


def table(head, rows):
    """Writes a Markdown table; a column is aligned to the right where its heading ends with a colon."""
    lines = [
        "| " + " | ".join(cell.rstrip(":") for cell in head) + " |",
        "|" + "|".join("---:" if cell.endswith(":") else "---" for cell in head) + "|",
    ]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


TITLES = {
    "closed": "closed loop, {} connections, keep-alive",
    "handshake": "full handshakes, {}",
    "open": "open, {} over 50 connections, {} s",
    "held": "{} connections opened and held, 167/s, {} s",
}


def title(result, row, size):
    seconds = result.about["seconds"].get(f"{row} {size}", result.about["seconds"].get(row))
    return TITLES[row].format(f"{int(size):,}" if size.isdigit() else size, seconds)


def goal(result, cell, ratios):
    """Returns the goal of ours against a tool, and whether it is reached: two cells."""
    row, server, size, tool = cell
    bound = RATIOS.get((row, tool))
    if bound is None or not ratios or tool == OURS:
        return "", ""
    reached = statistics.median(ratios) <= bound
    ours = (row, server, size, OURS)
    if row == "open" and not reached:
        # The floor counts where it leaves no room below the goal.
        to_floor = result.ratios(ours, (row, "nginx, no TLS", size, FLOOR))
        floor = result.ratios((row, "nginx, no TLS", size, FLOOR), cell) if to_floor else []
        if floor and statistics.median(floor) > bound:
            reached = statistics.median(to_floor) <= FLOOR_RATIO
            return f"≤ {bound}, or {FLOOR_RATIO} × floor", "yes" if reached else "no"
    return f"≤ {bound}", "yes" if reached else "no"


def comparison(result):
    """Writes the table of all tools side by side."""
    rows = []
    for row in UNITS:
        for cell in result.ordered(row):
            _, server, size, tool = cell
            cost = result.values(cell, "cost")
            if not cost:
                continue
            # Without TLS beside the same server with it.
            ours = (row, "nginx" if "TLS" in server else server, size, OURS)
            ratios = result.ratios(ours, cell) if tool != OURS and ours in result.cells else []
            calls = result.system_calls(cell).get("raw_syscalls:sys_enter")
            unit = "s" if UNITS[row][1] is None else f"ms/{UNITS[row][0]}"
            rows.append(
                [
                    title(result, row, size),
                    server,
                    f"**{tool}**" if tool == OURS else tool,
                    f"{ranged(cost)} {unit}",
                    ranged(result.values(cell, "peak_rss_mb")),
                    rounded(calls) if calls else "",
                    ranged(ratios) if ratios else "",
                    *goal(result, cell, ratios),
                ]
            )
    return table(
        ["load", "server", "tool", "CPU:", "peak RSS MB:", "system calls:", "ours ÷ tool:", "goal", "reached"], rows
    )


def bounds(result):
    """Writes the table of the goals that no other tool is part of, and the floor's lag, which is the machine's."""
    rows = []
    for row, size, figure, bound, unit, what in BOUNDS:
        for cell in (cell for cell in result.cells if (cell[0], cell[2], cell[3]) == (row, size, OURS)):
            values = result.values(cell, figure)
            if values:
                reached = "yes" if statistics.median(values) <= bound else "no"
                rows.append([f"{what}, {cell[1]}", ranged(values, unit), f"≤ {bound} {unit}", reached])
        if figure == "lag_p99_us":
            floors = [cell for cell in result.cells if (cell[0], cell[2]) == (row, size) and cell[3].startswith("floor")]
            for cell in floors:
                rows.append([f"… of the {cell[3]}", ranged(result.values(cell, figure), unit), "", ""])
    return table(["figure", "measured:", "goal", "reached"], rows)


def growth(result):
    """Writes the table of how our cost grows with connections, rate and duration."""
    rows = []
    for cell in (cell for cell in result.cells if cell[0].startswith("grows with ")):
        entries = result.cells[cell]
        lag, per_request = result.values(cell, "lag_p99_us"), result.values(cell, "us_per_request")
        late = max((entry.get("late") or 0) + (entry.get("unsent") or 0) for entry in entries)
        rows.append(
            [
                cell[0].removeprefix("grows with "),
                cell[2],
                ranged(result.values(cell, "cpu_s"), "s"),
                ranged(per_request) if per_request else "",
                ranged(result.values(cell, "peak_rss_mb")),
                ranged(lag) if lag else "",
                f"{late:,}",
            ]
        )
    return table(
        ["grows with", "size:", "CPU:", "CPU µs a request:", "peak RSS MB:", "lag p99 µs:", "late or unsent:"], rows
    )


def header(result):
    """Writes what was measured, on what and with what, as a paragraph and a list of versions."""
    about = result.about
    entries = [entry for cell in result.cells.values() for entry in cell]
    # All entries of a cell but those that counted system calls.
    rounds = {sum(not entry["counted"] for entry in cell) for (row, *_), cell in result.cells.items() if row in UNITS}
    rounds = " to ".join(str(one) for one in sorted({min(rounds, default=0), max(rounds, default=0)}))
    others, steal = (max(entry[name] for entry in entries) for name in ("others_share", "steal_share"))
    lines = [
        f"Measured {about['date']} by `{about['command']}` in {about['minutes']} minutes: medians of "
        f"{rounds} interleaved rounds (least … most), user and system CPU time and peak RSS of the whole process. "
        f"{about['machine']}. Servers on CPU {about['server_cpus']}, tools on CPU {about['client_cpus']}, without the "
        f"right to raise their scheduling. Others took at most {others:.0%} of the processors in any run, the "
        f"hypervisor {steal:.0%}.",
        "",
        "Versions: " + " · ".join(f"{name} {version}" for name, version in about["versions"].items()) + ".",
    ]
    if about["missing"]:
        lines += ["", "Not measured: " + "; ".join(f"{tool}: {why}" for tool, why in about["missing"].items()) + "."]
    doubts = [
        f"{' '.join(key(entry))}, round {entry['round']}: {entry['doubt']}" for entry in entries if entry["doubt"]
    ]
    if doubts:
        lines += ["", "Doubtful: " + "; ".join(doubts) + "."]
    return "\n".join(lines)


def markdown(text):
    """Writes the tables of docs/PERFORMANCE.md from a result in JSON."""
    result = Result(json.loads(text))
    parts = [header(result), comparison(result), bounds(result), growth(result)]
    return "\n\n".join(part for part in parts if part.count("\n") != 1) + "\n"


BEGIN, END = (
    "<!-- Made by tools/cost/run publish; edit nothing up to the next comment. -->\n",
    "<!-- End of what it made. -->",
)


def spliced(document, text):
    """Returns the document with the tables of a result in place of those that it has."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the document has no place for the tables")
    return f"{before}{BEGIN}\n{markdown(text)}\n{END}{after}"
