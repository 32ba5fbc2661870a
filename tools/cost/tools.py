"""The tools that are compared: the command line of each for each kind of load, and its version."""

import json
import pathlib
import re

import result
from servers import BODY, DIRECTORY, HEARTBEAT, TOKEN, output_of, program

CONNECTIONS = 50
# Handshakes under way at once, of the tools that have several.
HANDSHAKES_AT_ONCE = 8
HEADERS = [f"Authorization: Bearer {TOKEN}", "Content-Type: application/json", "Accept: application/json"]

K6 = """
import http from 'k6/http';
export const options = {
  insecureSkipTLSVerify: true, discardResponseBodies: true, summaryTrendStats: ['med'],
  scenarios: { load: { executor: 'constant-arrival-rate', rate: %d, timeUnit: '1s', duration: '%ds',
    preAllocatedVUs: %d, maxVUs: %d } },
};
const parameters = { headers: %s };
export default () => http.post('%s', '%s', parameters);
"""


class Command:
    """A command line, what reads its output, and what is written to its standard input."""

    def __init__(self, arguments, read, stdin=b"", server_port="port"):
        self.arguments, self.read, self.stdin, self.server_port = (
            [str(one) for one in arguments],
            read,
            stdin,
            server_port,
        )


class Tools:
    """The tools of this machine. `folders` come before PATH; `scratch` takes their input files, `ca` is a PEM file."""

    NAMES = ["wrk", "oha", "h2load", "vegeta", "k6", "openssl", "tls-perf"]

    def __init__(self, folders, scratch, ca, floor):
        self.scratch, self.ca, self.floor = scratch, ca, floor
        self.paths = {name: program(name, folders) for name in self.NAMES}
        self.missing = {name: "not found" for name, path in self.paths.items() if not path}
        (scratch / "body.json").write_text(BODY)
        (scratch / "heartbeat.http").write_text(
            "\r\n".join(
                [f"POST {HEARTBEAT} HTTP/1.1", "Host: localhost", *HEADERS, f"Content-Length: {len(BODY)}", "", BODY]
            )
        )

    def versions(self):
        """Returns the version of each tool that is here."""
        arguments = {"wrk": "-v", "oha": "--version", "h2load": "--version", "k6": "version", "openssl": "version"}
        versions = {}
        for name, path in self.paths.items():
            if name in arguments and path:
                versions[name] = result.read_version(output_of(path, arguments[name]))
            elif name == "vegeta" and path:
                # What Go builds from a module says no version, but carries it.
                built = re.search(rb"\tgithub.com/tsenart/vegeta/v12\tv([\w.+-]+)", pathlib.Path(path).read_bytes())
                versions[name] = built.group(1).decode() if built else result.read_version(output_of(path, "--version"))
            elif path:
                versions[name] = "without a version"
        return versions

    def headers(self, flag="-H"):
        return [part for header in HEADERS for part in (flag, header)]

    def closed(self, server, seconds):
        """Returns the commands of requests as fast as answers come: of the directory, one of our four."""
        url = f"https://localhost:{server.port}{DIRECTORY}"
        return self.here(
            {
                "wrk": (["-t", 1, "-c", CONNECTIONS, "-d", f"{seconds}s", *self.headers(), url], result.read_wrk),
                "oha": (["-c", CONNECTIONS, "-z", f"{seconds}s", *self.oha(), url], result.read_oha),
                "h2load": (
                    ["--h1", "-t", 1, "-c", CONNECTIONS, "-D", seconds, *self.headers(), url],
                    result.read_h2load,
                ),
            }
        )

    def open(self, server, seconds, rate, connections=CONNECTIONS):
        """Returns the commands of heartbeats at a rate."""
        url = f"https://localhost:{server.port}{HEARTBEAT}"
        body = self.scratch / "body.json"
        commands = self.here(
            {
                "oha": (
                    [
                        "-c",
                        connections,
                        "-q",
                        rate,
                        "-z",
                        f"{seconds}s",
                        "--latency-correction",
                        "-m",
                        "POST",
                        "-D",
                        body,
                        *self.oha(),
                        url,
                    ],
                    result.read_oha,
                ),
                "h2load": (
                    [
                        "--h1",
                        "-t",
                        1,
                        "-c",
                        connections,
                        "-D",
                        seconds,
                        "--rps",
                        rate / connections,
                        "-d",
                        body,
                        *self.headers(),
                        url,
                    ],
                    result.read_h2load,
                ),
            }
        )
        # Neither opens the connections of its own accord: they have as many as requests are under way.
        if connections == CONNECTIONS:
            script = self.scratch / f"k6-{server.port}-{rate}-{seconds}.js"
            headers = json.dumps(dict(header.split(": ") for header in HEADERS))
            script.write_text(K6 % (rate, seconds, connections, connections, headers, url, BODY))
            commands |= self.here(
                {
                    "vegeta": (
                        [
                            "attack",
                            "-rate",
                            f"{rate}/1s",
                            "-duration",
                            f"{seconds}s",
                            "-connections",
                            connections,
                            "-max-connections",
                            connections,
                            "-http2=false",
                            "-root-certs",
                            self.ca,
                            "-body",
                            body,
                            *self.headers("-header"),
                            "-output",
                            "/dev/null",
                        ],
                        result.read_nothing,
                        f"POST {url}\n".encode(),
                    ),
                    "k6": (["run", "--quiet", "--no-usage-report", script], result.read_k6),
                }
            )
        return commands

    def floors(self, server, seconds, rate):
        """Returns the commands of a bare loop without TLS at a rate, or closed without one."""
        request = self.scratch / "heartbeat.http"
        return {
            f"floor, {kind}": Command(
                [self.floor, server.plain, CONNECTIONS, rate or 0, seconds, request, kind], result.read_floor
            )
            for kind in (("timerfd", "epoll") if rate else ("closed",))
        }

    def handshake(self, server, seconds):
        """Returns the commands of new connections, each with a full handshake; all but the last send a request or
        nothing at all, as they can."""
        address, url = f"localhost:{server.port}", f"https://localhost:{server.port}/"
        return self.here(
            {
                "openssl s_time": (
                    [
                        "s_time",
                        "-new",
                        "-connect",
                        address,
                        "-CAfile",
                        self.ca,
                        "-verify",
                        3,
                        "-tls1_3",
                        "-time",
                        seconds,
                    ],
                    result.read_s_time,
                ),
                "tls-perf": (
                    [
                        "-q",
                        "-l",
                        HANDSHAKES_AT_ONCE,
                        "-t",
                        1,
                        "-T",
                        seconds,
                        "--tls",
                        "1.3",
                        "-C",
                        "X25519",
                        "127.0.0.1",
                        server.port,
                    ],
                    result.read_tls_perf,
                ),
                "oha": (
                    ["-c", HANDSHAKES_AT_ONCE, "-z", f"{seconds}s", "--disable-keepalive", *self.oha(), url],
                    result.read_oha,
                ),
                "wrk": (
                    ["-t", 1, "-c", HANDSHAKES_AT_ONCE, "-d", f"{seconds}s", "-H", "Connection: close", url],
                    result.read_wrk,
                ),
            }
        )

    def oha(self):
        return ["--no-tui", "--output-format", "json", "--cacert", self.ca, "--disable-compression", *self.headers()]

    def here(self, commands):
        """Returns those commands whose program is here."""
        made = {}
        for tool, (arguments, read, *stdin) in commands.items():
            path = self.paths[tool.split()[0]]
            if path:
                made[tool] = Command([path, *arguments], read, *stdin)
        return made


class Generator:
    """This suite's programs in a checkout; `name` is its name in tables."""

    TARGETS = ["acme_burst", "agent_storm", "connector_tier"]

    def __init__(self, name, programs, ca, scratch, flags):
        self.name, self.programs, self.ca, self.scratch, self.flags = name, programs, ca, scratch, flags

    def command(self, target, server, seconds, *arguments):
        # Whoever else used the machine is in the result of the harness; warm-up would be in the cost of ours alone.
        arguments = [
            self.programs[target],
            "--bench",
            "--mode",
            "sustained",
            "--duration",
            f"{seconds}s",
            "--warm-up",
            "0s",
            "--max-other-cpu",
            "100%",
            "--output",
            self.scratch / "ours",
            *arguments,
            *self.flags,
        ]
        return Command(arguments, None)

    def at(self, server):
        return ["--target", f"https://localhost:{server.port}", "--ca-file", self.ca]

    def closed(self, server, seconds):
        return self.command("acme_burst", server, seconds, *self.at(server), "--users", CONNECTIONS)

    def open(self, server, seconds, rate, *more):
        rate = ["--rate", f"{rate}/s", "--connections", CONNECTIONS]
        return self.command("agent_storm", server, seconds, *self.at(server), *rate, *more)

    def held(self, server, seconds, rate, connections):
        return self.command(
            "agent_storm", server, seconds, *self.at(server), "--rate", f"{rate}/s", "--agents", connections
        )

    def handshake(self, server, seconds, rate):
        return self.command(
            "connector_tier",
            server,
            seconds,
            "--nginx",
            f"https://localhost:{server.port}",
            "--connector-ca-file",
            self.ca,
            "--only",
            "nginx",
            "--rate",
            f"{rate}/s",
        )
