#!/usr/bin/env bash
# HAProxy 2.6: after `commit ssl cert` a client that resumes its session goes on seeing the old certificate. Under TLS 1.2
# that ends with the lifetime of its session ticket (tune.ssl.lifetime). Under TLS 1.3 it does not end while connections
# keep coming: each resumed handshake brings a fresh ticket, with a lifetime of its own, for the same old session.
#
# expected  once a ticket's lifetime has passed since the commit, every client sees the new certificate
# seen      under TLS 1.3 a client sees the old one after three lifetimes; a reload ends it
#
# Takes some 35 s, on loopback, with HAProxy from Debian 12 and Python's ssl module. Ends with 1 if HAProxy does otherwise.
set -euo pipefail

work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

packages=(haproxy=2.6.12-1+deb12u4 liblua5.3-0=5.3.6-2 libopentracing-c-wrapper0=1.1.3-3+b1 libopentracing1=1.6.0-4)
if apt-get download -qq "${packages[@]}" >apt.log 2>&1; then
    for package in ./*.deb; do dpkg-deb -x "$package" root; done
    export LD_LIBRARY_PATH=$work/root/usr/lib/$(uname -m)-linux-gnu
    haproxy=$work/root/usr/sbin/haproxy
else
    echo "not installed, so that this machine's is used: $(tail -1 apt.log)"
    haproxy=$(command -v haproxy || echo /usr/sbin/haproxy)
fi
"$haproxy" -v | sed -n 1p
python3 -c 'import ssl; print("client:", ssl.OPENSSL_VERSION)'

for name in old new; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$name" \
        -keyout $name.key -out $name.crt 2>/dev/null
    cat $name.crt $name.key >$name.pem
done
cp old.pem site.pem
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >haproxy.cfg <<CONFIG
global
    tune.ssl.lifetime 4s
    stats socket unix@$work/admin.sock mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend site
    bind 127.0.0.1:$port ssl crt site.pem
    http-request return status 200 content-type text/plain string ok
CONFIG
"$haproxy" -W -f haproxy.cfg >haproxy.log 2>&1 &
pid=$!

cat >client.py <<'CLIENT'
import os, signal, socket, ssl, sys, time

port, master, LIFETIME = int(sys.argv[1]), int(sys.argv[2]), 4
names = {ssl.PEM_cert_to_DER_cert(open(f"{name}.crt").read()): name for name in ("old", "new")}


def command(text):
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect("admin.sock")
        admin.sendall(text.encode())
        answer = b""
        while part := admin.recv(4096):
            answer += part
    return answer.decode().strip()


def commit(name):
    command(f"set ssl cert site.pem <<\n{open(name + '.pem').read()}\n")
    assert "Success" in command("commit ssl cert site.pem\n"), "the commit failed"


def connect(context, session=None):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as tcp:
        with context.wrap_socket(tcp, session=session) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while tls.recv(4096):
                pass
            return names[tls.getpeercert(binary_form=True)], tls.session_reused, tls.session


deadline = time.monotonic() + 20
while True:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        break
    except OSError:
        assert time.monotonic() < deadline, "HAProxy does not listen"
        time.sleep(0.05)

last = {}
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    commit("old")
    shown, _, session = connect(context)
    assert shown == "old", shown
    commit("new")
    start, last[version] = time.monotonic(), 0.0
    while (passed := time.monotonic() - start) < 3 * LIFETIME:
        assert connect(context)[0] == "new", "a full handshake shows the old certificate"
        shown, reused, session = connect(context, session)
        if reused and shown == "old":
            last[version] = passed
        time.sleep(0.5)
    print(f"{version.name}: the old certificate, resumed, until {last[version]:.1f} s after the commit; "
          f"a ticket's lifetime is {LIFETIME} s")

with open("new.pem") as new, open("site.pem", "w") as site:
    site.write(new.read())
os.kill(master, signal.SIGUSR2)
# New workers take over within a moment; until then the old ones may still answer.
deadline = time.monotonic() + 20
while (result := connect(context, session))[0] != "new":
    session = result[2]
    assert time.monotonic() < deadline, "a reload does not end it"
    time.sleep(0.5)
print("TLSv1_3 after a reload: the new certificate")

tls12, tls13 = last[ssl.TLSVersion.TLSv1_2], last[ssl.TLSVersion.TLSv1_3]
surprise = 0 < tls12 <= LIFETIME + 1.5 and tls13 >= 3 * LIFETIME - 2
print("as seen before" if surprise else "otherwise than seen before")
sys.exit(0 if surprise else 1)
CLIENT
python3 client.py "$port" "$pid"
