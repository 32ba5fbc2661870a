-- Certificates that agents deploy: cert-loadtest-deploy-00001 and on, each to one target of the agent with its number. As
-- many as the setting certctl_bench.deployments says, and none without it. certctl's API cannot bind a certificate to a
-- target. See README.md for the shapes.

INSERT INTO managed_certificates (
    id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, status, expires_at, tags,
    created_at, updated_at
)
SELECT
    'cert-loadtest-deploy-' || digits,
    host,
    host,
    ARRAY[host],
    'loadtest',
    'o-alice',
    't-platform',
    'iss-local',
    'rp-standard',
    'Active',
    -- Beyond every window of renewal, so that certctl's own scan leaves them alone.
    now() + interval '80 days',
    '{"source": "certctl-bench", "batch": "deploy-loop"}',
    -- Younger than the certificates of 01: whoever takes the oldest of a team takes none of these. Each its own time.
    now() - n * interval '1 microsecond',
    now() - n * interval '1 microsecond'
FROM generate_series(1, coalesce(nullif(current_setting('certctl_bench.deployments', true), ''), '0')::int) AS n,
    lpad(n::text, greatest(5, length(n::text)), '0') AS digits,
    concat('loadtest-deploy-', digits, '.example.test') AS host
-- Without a target, since id and name are both unique: a second run adds nothing and fails on neither.
ON CONFLICT DO NOTHING;

INSERT INTO deployment_targets (id, name, type, agent_id, config)
SELECT
    'tgt-loadtest-deploy-' || digits,
    'loadtest-deploy-' || digits,
    -- The agents of the suite decide what they deploy to; certctl only passes the type on.
    'NGINX',
    'ag-loadtest-' || digits,
    '{}'
FROM generate_series(1, coalesce(nullif(current_setting('certctl_bench.deployments', true), ''), '0')::int) AS n,
    lpad(n::text, greatest(5, length(n::text)), '0') AS digits
ON CONFLICT DO NOTHING;

INSERT INTO certificate_target_mappings (certificate_id, target_id)
SELECT 'cert-loadtest-deploy-' || digits, 'tgt-loadtest-deploy-' || digits
FROM generate_series(1, coalesce(nullif(current_setting('certctl_bench.deployments', true), ''), '0')::int) AS n,
    lpad(n::text, greatest(5, length(n::text)), '0') AS digits
ON CONFLICT DO NOTHING;
