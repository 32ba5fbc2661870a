-- The fleet: 5,000 agents, ag-loadtest-00001 to ag-loadtest-05000, or as many as the setting certctl_bench.agents says.
-- Everything but the two times follows from the agent's number alone, so that every database holds the same fleet. See
-- README.md for the shapes.

INSERT INTO agents (
    id, name, hostname, status, last_heartbeat_at, registered_at, api_key_hash, os, architecture, ip_address, version
)
SELECT
    'ag-loadtest-' || digits,
    'loadtest-agent-' || digits,
    'loadtest-' || digits || '.fleet.example.test',
    -- Capitalised, as certctl writes it; any other spelling sends a heartbeat down the path of a stale agent.
    'Online',
    -- One agent every 12 ms, over the last 60 s: the age that a fleet with a heartbeat a minute has.
    now() - ((n - 1) % 5000 + 1) * interval '12 milliseconds',
    now() - ((n - 1) % 90 + 1) * interval '1 day',
    -- certctl stores SHA-256 in hex; nothing hashes to this.
    '!loadtest: no key has this hash',
    -- Ones choose the system and tens the processor: independent of each other, exact in every 50 agents.
    CASE n % 10 WHEN 0 THEN 'windows' WHEN 1 THEN 'darwin' ELSE 'linux' END,
    CASE n / 10 % 5 WHEN 0 THEN 'arm64' ELSE 'amd64' END,
    -- From 10.42.0.1 to 10.42.19.250 and on: each its own, none ending in 0 or 255.
    '10.' || 42 + (n - 1) / 62500 || '.' || (n - 1) / 250 % 250 || '.' || (n - 1) % 250 + 1,
    '2.1.0'
FROM generate_series(1, coalesce(nullif(current_setting('certctl_bench.agents', true), ''), '5000')::int) AS n,
    lpad(n::text, greatest(5, length(n::text)), '0') AS digits
-- Without a target, since id and name are both unique: a second run adds nothing and fails on neither.
ON CONFLICT DO NOTHING;
