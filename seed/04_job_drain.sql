-- The certificates of a job drain: as many as the setting certctl_bench.drain says, and none without it, named
-- cert-loadtest-drain-00001 and so on; one target for each of the first agents of the fleet (02_agent_fleet.sql), as
-- many as certctl_bench.drain_agents says; and mappings, which deal the certificates out to these targets in turn.
-- certctl shows an agent only the jobs of certificates that map to a target of its own, and has no API for mappings. See
-- README.md.

INSERT INTO managed_certificates (
    id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, status, expires_at, tags,
    created_at, updated_at
)
SELECT
    'cert-loadtest-drain-' || digits,
    host,
    host,
    ARRAY[host],
    'loadtest',
    -- Rows of certctl's demo seed.
    'o-alice',
    't-platform',
    'iss-local',
    'rp-standard',
    'Active',
    -- 40 days ahead, a second apart: out of reach of certctl's own renewal scan, which looks 31 days ahead, and before
    -- the 90 days of a certificate that its local issuer signs.
    now() + interval '40 days' + n * interval '1 second',
    '{"source": "certctl-bench", "batch": "job-drain"}',
    created_at,
    created_at
FROM generate_series(1, coalesce(nullif(current_setting('certctl_bench.drain', true), ''), '0')::int) AS n,
    lpad(n::text, greatest(5, length(n::text)), '0') AS digits,
    concat('loadtest-drain-', digits, '.example.test') AS host,
    -- A second apart, and before those of the other seeds.
    CAST(now() - interval '2 days' - n * interval '1 second' AS timestamptz) AS created_at
-- Without a target, since id and name are both unique: a second run adds nothing and fails on neither.
ON CONFLICT DO NOTHING;

INSERT INTO deployment_targets (id, name, type, agent_id, config, enabled, created_at, updated_at)
SELECT
    'tgt-loadtest-drain-' || digits,
    'loadtest-drain-' || digits,
    'NGINX',
    'ag-loadtest-' || digits,
    '{"cert_path": "/etc/nginx/ssl/cert.pem", "key_path": "/etc/nginx/ssl/key.pem"}',
    true,
    now() - interval '90 days',
    now() - interval '90 days'
FROM generate_series(
        1,
        -- No certificates, no targets.
        CASE WHEN coalesce(nullif(current_setting('certctl_bench.drain', true), ''), '0')::int > 0
            THEN coalesce(nullif(current_setting('certctl_bench.drain_agents', true), ''), '5000')::int ELSE 0 END
    ) AS n,
    lpad(n::text, greatest(5, length(n::text)), '0') AS digits
ON CONFLICT DO NOTHING;

INSERT INTO certificate_target_mappings (certificate_id, target_id)
SELECT certificate.id, target.id
FROM generate_series(1, coalesce(nullif(current_setting('certctl_bench.drain', true), ''), '0')::int) AS n
CROSS JOIN LATERAL (
    SELECT (n - 1) % coalesce(nullif(current_setting('certctl_bench.drain_agents', true), ''), '5000')::int + 1 AS place
) AS turn
JOIN managed_certificates AS certificate
    ON certificate.id = 'cert-loadtest-drain-' || lpad(n::text, greatest(5, length(n::text)), '0')
JOIN deployment_targets AS target
    ON target.id = 'tgt-loadtest-drain-' || lpad(place::text, greatest(5, length(place::text)), '0')
ON CONFLICT DO NOTHING;
