"""The servers of the harness: certificates, nginx that answers as a certctl would, and the reference server."""

import contextlib
import ctypes
import glob
import http.client
import json
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import time

TOKEN = "load-test-token"
HEARTBEAT = "/api/v1/agents/ag-loadtest-00001/heartbeat"
BODY = '{"version":"2.1.0","hostname":"loadtest-00001.fleet.example.test","os":"linux","architecture":"amd64"}'
DIRECTORY = "/acme/profile/prof-standard-tls/directory"
ACME = {"newNonce": "new-nonce", "newAccount": "a", "newOrder": "o", "renewalInfo": "renewal-info"}
PATIENCE_S = 30
# So that no server outlives a harness that was killed.
LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1
TICKS = os.sysconf("SC_CLK_TCK")


class CannotRun(Exception):
    """The harness cannot do its work: what, and a hint."""

    def __init__(self, what, hint):
        super().__init__(what)
        self.hint = hint


def program(name, folders=()):
    """Returns the path of a program, from these folders or PATH, where Debian's servers are not; None if missing."""
    return shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/sbin"]))


def output_of(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_certificates(folder):
    """Makes an authority and a certificate of localhost, ECDSA P-256: ca.pem, cert.pem, key.pem."""

    def openssl(*arguments):
        done = subprocess.run(
            ["openssl", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise CannotRun(f"openssl {arguments[0]}: {done.stdout.strip()}", "install OpenSSL 3")

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    (folder / "names").write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
        "basicConstraints=critical,CA:FALSE\n"
    )
    openssl(
        "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Load test authority", "-days", "30"
    )
    openssl("req", *key, "-keyout", "key.pem", "-out", "cert.csr", "-subj", "/CN=localhost")
    openssl(
        "x509",
        "-req",
        "-in",
        "cert.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "cert.pem",
        "-days",
        "30",
        "-extfile",
        "names",
    )
    # nginx's workers and the reference server read it as other users may.
    (folder / "key.pem").chmod(0o644)


def cpu_s(pid):
    """Returns the CPU time of a process so far, without its children."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def processes(pid):
    """Returns the id of a process, and of those that it started and that they did."""
    found = [pid]
    for one in found:
        for children in glob.glob(f"/proc/{one}/task/*/children"):
            with contextlib.suppress(OSError), open(children, encoding="ascii") as lines:
                found += map(int, lines.read().split())
    return found


def peak_rss_kib(pid):
    """Returns the peak memory so far of a process and of those of its descendants that run the same program; 0 if it
    has ended. Others are gone after a moment: a generator looks up versions."""
    total = 0
    for one in processes(pid):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if os.readlink(f"/proc/{one}/exe") == os.readlink(f"/proc/{pid}/exe"):
                with open(f"/proc/{one}/status", encoding="utf-8") as status:
                    total += int(status.read().partition("VmHWM:")[2].split(maxsplit=1)[0])
    return total


NGINX = """
daemon off;
worker_processes {workers};
worker_rlimit_nofile {descriptors};
pid {folder}/nginx-{port}.pid;
error_log {log} crit;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    server_tokens off;
    keepalive_timeout 2h;
    keepalive_requests 1000000000;
    reset_timedout_connection on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type application/json;
    ssl_protocols TLSv1.3;
    ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/key.pem;
    ssl_ecdh_curve X25519;
    # Every handshake is a full one: two of the tools resume, unasked, where they can.
    ssl_session_tickets off;
    ssl_session_cache off;
    server {{
        listen 127.0.0.1:{port} ssl backlog=4096 reuseport;
        listen 127.0.0.1:{plain} backlog=4096 reuseport;
        location = /health {{ return 200 '{{"status":"healthy"}}'; }}
        location = /ready {{ return 200 '{{"status":"ready"}}'; }}
        location = /api/v1/version {{ return 200 '{{"version":"nginx {version}"}}'; }}
        location = /api/v1/auth/check {{
            return 200 '{{"user":"load test","effective_permissions":[{{"permission":"agent.heartbeat"}}]}}';
        }}
        location /api/v1/agents/ {{ return 200 '{{"status":"heartbeat_recorded"}}\\n'; }}
        location = {directory} {{
            return 200 '{links}';
        }}
        location = {path}/new-nonce {{ add_header Replay-Nonce $request_id; return 200; }}
        location = {path}/renewal-info/aaaa {{
            default_type application/problem+json;
            return 400 '{{"type":"urn:ietf:params:acme:error:malformed","detail":"{detail}","status":400}}';
        }}
        location = {path}/renewal-info/aaaa.bbbb {{
            default_type application/problem+json;
            return 404 '{{"type":"urn:ietf:params:acme:error:malformed","detail":"{detail}","status":404}}';
        }}
        location = / {{ default_type text/plain; return 200 'ok'; }}
        location = /status {{ stub_status; }}
    }}
}}
"""


class Server:
    """A server on loopback, which is stopped at the end of a with block."""

    child = None

    def spawn(self, command, cpus, **options):
        def prepare():
            os.sched_setaffinity(0, cpus)
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        # The reference server ends where its standard input does.
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, preexec_fn=prepare, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def cpu_s(self):
        return sum(cpu_s(pid) for pid in processes(self.child.pid))

    def wait_until(self, is_ready):
        limit = time.monotonic() + PATIENCE_S
        while not is_ready():
            if self.child.poll() is not None or time.monotonic() > limit:
                raise self.not_started()
            time.sleep(0.05)

    def not_started(self):
        # The log is gone with the run.
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return CannotRun(
            f"{self.name} did not start: {lines[-1] if lines else 'it wrote nothing'}", "correct what it names"
        )

    def accepts(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False


class Nginx(Server):
    """nginx, which answers the requests of a heartbeat, of ACME's readers and of a new connection from memory."""

    name = "nginx"

    def __init__(self, folder, cpus, connections, descriptors, read_status):
        binary = program("nginx")
        if not binary:
            raise CannotRun("nginx not found", "install nginx")
        self.version = output_of(binary, "-v").strip().rpartition("/")[2]
        self.port, self.plain, self.log = free_port(), free_port(), folder / "nginx.log"
        self.read_status, self.status, self.asked = read_status, None, 0
        # The kernel deals connections out to workers by chance, so that some get more than their share.
        each = descriptors - 100
        workers = 1 if connections <= each else -(-connections * 3 // (2 * each))
        # The most connections that it is for.
        self.most = max(connections, each)
        path = DIRECTORY.rpartition("/")[0]
        configuration = NGINX.format(
            workers=workers,
            descriptors=descriptors,
            connections=each,
            folder=folder,
            port=self.port,
            log=self.log,
            plain=self.plain,
            version=self.version,
            directory=DIRECTORY,
            path=path,
            links=json.dumps({name: f"https://localhost:{self.port}{path}/{end}" for name, end in ACME.items()}),
            # As long as a directory.
            detail="the id of the certificate is " + "not one " * 20,
        )
        file = folder / f"nginx-{self.port}.conf"
        file.write_text(configuration)
        with open(self.log, "ab") as log:
            self.spawn([binary, "-p", str(folder), "-c", str(file)], cpus, stdout=log, stderr=log)
        self.wait_until(self.accepts)

    def counts(self):
        """Returns open connections, connections taken and requests so far, without those that ask for them."""
        if self.status is None:
            self.status = http.client.HTTPConnection("127.0.0.1", self.plain, timeout=PATIENCE_S)
        self.status.request("GET", "/status")
        counts = self.read_status(self.status.getresponse().read().decode())
        self.asked += 1
        return {
            "active": counts["active"] - 1,
            "connections": counts["connections"],
            "requests": counts["requests"] - self.asked,
        }


class Reference(Server):
    """The reference server, in memory."""

    name = "reference server"

    def __init__(self, binary, folder, cpus, agents):
        self.log = folder / "reference.log"
        command = [
            str(binary),
            "--in-memory",
            "--agents",
            str(agents),
            "--tls-cert",
            str(folder / "cert.pem"),
            "--tls-key",
            str(folder / "key.pem"),
            "--workers",
            str(max(len(cpus), 1)),
        ]
        environment = {"PATH": os.environ.get("PATH", ""), "CERTCTL_REFERENCE_TOKEN": TOKEN}
        with open(self.log, "ab") as log:
            self.spawn(command, cpus, stdout=subprocess.PIPE, stderr=log, env=environment)
        ready, _, _ = select.select([self.child.stdout], [], [], PATIENCE_S)
        line = self.child.stdout.readline() if ready else b""
        if not line:
            raise self.not_started()
        announced = json.loads(line)
        self.version, self.port = announced["version"], int(announced["address"].rpartition(":")[2])
        self.status = None
        self.context = ssl.create_default_context(cafile=str(folder / "ca.pem"))

    def counts(self):
        """Returns the heartbeats so far; connections are not counted there."""
        if self.status is None:
            self.status = http.client.HTTPSConnection("localhost", self.port, context=self.context, timeout=PATIENCE_S)
        self.status.request("GET", "/reference/work", headers={"Authorization": f"Bearer {TOKEN}"})
        return {"requests": json.loads(self.status.getresponse().read())["heartbeats"]}
