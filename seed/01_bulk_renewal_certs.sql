-- The certificates to renew: 10,000, cert-loadtest-bulk-00001 to cert-loadtest-bulk-10000, or as many as the setting
-- certctl_bench.certificates says. Everything but the times follows from the certificate's number alone, and the times
-- from it and the moment of seeding. See README.md.

INSERT INTO managed_certificates (
    id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, status, expires_at, tags,
    created_at, updated_at
)
SELECT
    'cert-loadtest-bulk-' || digits,
    host,
    host,
    ARRAY[host],
    'loadtest',
    -- Rows of certctl's demo seed.
    'o-alice',
    't-platform',
    'iss-local',
    'rp-standard',
    -- Capitalised, as certctl writes it; it filters and counts by this spelling alone.
    'Active',
    -- One every 258.84 s, from an hour to 30 days ahead. 7919 shares no factor with 10,000, so each place is taken
    -- once in every 10,000, and those that expire soon are not the oldest.
    now() + interval '1 hour' + (n::bigint * 7919 % 10000 + 1) * interval '258.84 seconds',
    '{"source": "certctl-bench", "batch": "bulk-renewal"}',
    -- A second apart: certctl pages by this column alone, and rows of the same time would change places.
    created_at,
    created_at
FROM generate_series(1, coalesce(nullif(current_setting('certctl_bench.certificates', true), ''), '10000')::int) AS n,
    lpad(n::text, greatest(5, length(n::text)), '0') AS digits,
    concat('loadtest-bulk-', digits, '.example.test') AS host,
    CAST(now() - CASE WHEN n > 10000 THEN n ELSE 10001 - n END * interval '1 second' AS timestamptz) AS created_at
-- Without a target, since id and name are both unique: a second run adds nothing and fails on neither.
ON CONFLICT DO NOTHING;
