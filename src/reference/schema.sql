-- Tables shaped like certctl's: same columns, constraints and indexes, since every index is paid for on each write.
-- Restated from certctl's observable schema in our own words. Applied once, in one transaction, to an empty database;
-- the server adds permissions and roles beside it.

-- Who may do what ---------------------------------------------------------------------------------------------------

CREATE TABLE tenants (
    id          text PRIMARY KEY,
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE roles (
    id          text PRIMARY KEY,
    tenant_id   text NOT NULL DEFAULT 't-default' REFERENCES tenants ON DELETE CASCADE,
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);

CREATE TABLE permissions (
    id        text PRIMARY KEY,
    name      text NOT NULL UNIQUE,
    namespace text NOT NULL
);

CREATE TABLE role_permissions (
    id            bigserial PRIMARY KEY,
    role_id       text NOT NULL REFERENCES roles ON DELETE CASCADE,
    permission_id text NOT NULL REFERENCES permissions ON DELETE RESTRICT,
    scope_type    text NOT NULL DEFAULT 'global',
    scope_id      text,
    UNIQUE NULLS NOT DISTINCT (role_id, permission_id, scope_type, scope_id),
    CHECK (scope_type IN ('global', 'profile', 'issuer')),
    CHECK ((scope_type = 'global') = (scope_id IS NULL))
);
CREATE INDEX role_permissions_by_role ON role_permissions (role_id);

CREATE TABLE actor_roles (
    id         text PRIMARY KEY,
    actor_id   text NOT NULL,
    actor_type text NOT NULL CHECK (actor_type IN ('User', 'System', 'Agent', 'APIKey', 'Anonymous')),
    role_id    text NOT NULL REFERENCES roles ON DELETE RESTRICT,
    granted_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    granted_by text NOT NULL DEFAULT 'system',
    tenant_id  text NOT NULL DEFAULT 't-default' REFERENCES tenants ON DELETE CASCADE,
    scope_type text NOT NULL DEFAULT 'global' CHECK (scope_type IN ('global', 'profile', 'issuer')),
    scope_id   text,
    UNIQUE (actor_id, actor_type, role_id, scope_type, scope_id, tenant_id),
    CHECK ((scope_type = 'global') = (scope_id IS NULL))
);
CREATE INDEX actor_roles_by_actor ON actor_roles (actor_id, actor_type, tenant_id);
CREATE INDEX actor_roles_by_role ON actor_roles (role_id);
CREATE INDEX actor_roles_by_scope ON actor_roles (scope_type, scope_id) WHERE scope_id IS NOT NULL;

INSERT INTO tenants (id, name) VALUES ('t-default', 'default');

-- Agents ------------------------------------------------------------------------------------------------------------

CREATE TABLE agents (
    id                text PRIMARY KEY,
    name              varchar(255) NOT NULL UNIQUE,
    hostname          varchar(255) NOT NULL,
    status            varchar(50) NOT NULL DEFAULT 'offline',
    last_heartbeat_at timestamptz,
    registered_at     timestamptz NOT NULL DEFAULT now(),
    api_key_hash      varchar(255) NOT NULL,
    os                varchar(100) DEFAULT '',
    architecture      varchar(100) DEFAULT '',
    ip_address        varchar(45) DEFAULT '',
    version           varchar(50) DEFAULT '',
    retired_at        timestamptz,
    retired_reason    text
);
CREATE INDEX agents_by_hostname ON agents (hostname);
CREATE INDEX agents_by_architecture ON agents (architecture);
CREATE INDEX agents_by_os ON agents (os);
CREATE INDEX agents_by_status ON agents (status);
CREATE INDEX agents_by_last_heartbeat ON agents (last_heartbeat_at);
-- certctl writes 'Online', so this index stays empty there too.
CREATE INDEX agents_online ON agents (status, last_heartbeat_at) WHERE status = 'online';
CREATE INDEX agents_retired ON agents (retired_at) WHERE retired_at IS NOT NULL;

-- Audit: append only, each row tied to the one before it ------------------------------------------------------------

CREATE TABLE audit_events (
    id             text PRIMARY KEY,
    actor          varchar(255) NOT NULL,
    actor_type     varchar(50) NOT NULL,
    action         varchar(255) NOT NULL,
    resource_type  varchar(255) NOT NULL,
    resource_id    varchar(255) NOT NULL,
    details        jsonb,
    "timestamp"    timestamptz NOT NULL DEFAULT now(),
    event_category text NOT NULL DEFAULT 'cert_lifecycle'
                   CHECK (event_category IN ('cert_lifecycle', 'auth', 'config')),
    prev_hash      text,
    row_hash       text NOT NULL
);
CREATE INDEX audit_events_by_action ON audit_events (action);
CREATE INDEX audit_events_by_actor ON audit_events (actor);
CREATE INDEX audit_events_by_category_newest ON audit_events (event_category, "timestamp" DESC);
CREATE INDEX audit_events_by_category ON audit_events (event_category);
CREATE INDEX audit_events_by_resource ON audit_events (resource_type, resource_id);
CREATE INDEX audit_events_oldest ON audit_events ("timestamp");
CREATE INDEX audit_events_newest ON audit_events ("timestamp" DESC);

CREATE TABLE audit_chain_head (
    id         integer PRIMARY KEY CHECK (id = 1),
    row_hash   text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO audit_chain_head (id) VALUES (1);

-- What a row's hash covers.
CREATE FUNCTION audit_link_text(event audit_events) RETURNS text LANGUAGE plpgsql STABLE AS $body$
BEGIN
    RETURN array_to_string(
        ARRAY[
            event.prev_hash, event.id, event.actor, event.actor_type, event.action, event.resource_type,
            event.resource_id, event.details::text,
            to_char(event."timestamp" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), event.event_category
        ],
        '|', ''
    );
END
$body$;

-- The head row is locked from here until the inserting transaction has committed: one audit row at a time.
CREATE FUNCTION audit_link() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    SELECT nullif(head.row_hash, '') INTO NEW.prev_hash FROM audit_chain_head head WHERE head.id = 1 FOR UPDATE;
    NEW.row_hash := encode(sha256(convert_to(audit_link_text(NEW), 'UTF8')), 'hex');
    UPDATE audit_chain_head SET row_hash = NEW.row_hash, updated_at = now() WHERE id = 1;
    RETURN NEW;
END
$body$;
CREATE TRIGGER audit_link BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION audit_link();

CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION 'audit rows cannot be changed or deleted' USING ERRCODE = 'check_violation';
END
$body$;
CREATE TRIGGER audit_refuse_change BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_change();

-- Certificates and what they refer to --------------------------------------------------------------------------------

CREATE TABLE teams (
    id          text PRIMARY KEY,
    name        varchar(255) NOT NULL UNIQUE,
    description text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX teams_by_name ON teams (name);

CREATE TABLE owners (
    id         text PRIMARY KEY,
    name       varchar(255) NOT NULL,
    email      varchar(255) NOT NULL,
    team_id    text NOT NULL REFERENCES teams ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX owners_by_email ON owners (email);
CREATE INDEX owners_by_team ON owners (team_id);

CREATE TABLE issuers (
    id               text PRIMARY KEY,
    name             varchar(255) NOT NULL UNIQUE,
    type             varchar(255) NOT NULL,
    config           jsonb,
    enabled          boolean NOT NULL DEFAULT true,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    encrypted_config bytea,
    last_tested_at   timestamptz,
    test_status      text NOT NULL DEFAULT 'untested',
    source           text NOT NULL DEFAULT 'database',
    hierarchy_mode   varchar(20) NOT NULL DEFAULT 'single'
);
CREATE INDEX issuers_by_name ON issuers (name);
CREATE INDEX issuers_by_enabled ON issuers (enabled);

CREATE TABLE certificate_profiles (
    id                      text PRIMARY KEY,
    name                    varchar(255) NOT NULL UNIQUE,
    description             text DEFAULT '',
    allowed_key_algorithms  jsonb NOT NULL
        DEFAULT '[{"algorithm": "ECDSA", "min_size": 256}, {"algorithm": "RSA", "min_size": 2048}]',
    max_ttl_seconds         integer NOT NULL DEFAULT 0,
    allowed_ekus            jsonb NOT NULL DEFAULT '["serverAuth"]',
    required_san_patterns   jsonb NOT NULL DEFAULT '[]',
    spiffe_uri_pattern      varchar(512) DEFAULT '',
    allow_short_lived       boolean NOT NULL DEFAULT false,
    enabled                 boolean NOT NULL DEFAULT true,
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now(),
    required_csr_attributes jsonb NOT NULL DEFAULT '[]',
    must_staple             boolean NOT NULL DEFAULT false,
    acme_auth_mode          text NOT NULL DEFAULT 'trust_authenticated'
                            CHECK (acme_auth_mode IN ('trust_authenticated', 'challenge')),
    requires_approval       boolean NOT NULL DEFAULT false
);
CREATE INDEX certificate_profiles_by_name ON certificate_profiles (name);
CREATE INDEX certificate_profiles_by_enabled ON certificate_profiles (enabled);

CREATE TABLE renewal_policies (
    id                     text PRIMARY KEY,
    name                   varchar(255) NOT NULL UNIQUE,
    renewal_window_days    integer NOT NULL,
    auto_renew             boolean NOT NULL DEFAULT true,
    max_retries            integer NOT NULL DEFAULT 3,
    retry_interval_seconds integer NOT NULL DEFAULT 60,
    alert_thresholds_days  jsonb NOT NULL DEFAULT '[30, 14, 7, 0]',
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now(),
    certificate_profile_id text REFERENCES certificate_profiles ON DELETE SET NULL,
    agent_group_id         text,
    alert_channels         jsonb NOT NULL DEFAULT '{}',
    alert_severity_map     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX renewal_policies_by_name ON renewal_policies (name);

CREATE TABLE managed_certificates (
    id                     text PRIMARY KEY,
    name                   varchar(255) NOT NULL UNIQUE,
    common_name            varchar(255) NOT NULL,
    sans                   text[] DEFAULT '{}',
    environment            varchar(50),
    owner_id               text NOT NULL REFERENCES owners ON DELETE RESTRICT,
    team_id                text NOT NULL REFERENCES teams ON DELETE CASCADE,
    issuer_id              text NOT NULL REFERENCES issuers ON DELETE RESTRICT,
    renewal_policy_id      text NOT NULL REFERENCES renewal_policies ON DELETE RESTRICT,
    status                 varchar(50) NOT NULL DEFAULT 'pending',
    expires_at             timestamptz,
    tags                   jsonb NOT NULL DEFAULT '{}',
    last_renewal_at        timestamptz,
    last_deployment_at     timestamptz,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now(),
    certificate_profile_id text REFERENCES certificate_profiles ON DELETE SET NULL,
    revoked_at             timestamptz,
    revocation_reason      varchar(50),
    source                 text NOT NULL DEFAULT ''
);
CREATE INDEX managed_certificates_by_expiry ON managed_certificates (expires_at);
CREATE INDEX managed_certificates_by_issuer ON managed_certificates (issuer_id);
CREATE INDEX managed_certificates_by_name ON managed_certificates (name);
CREATE INDEX managed_certificates_by_owner ON managed_certificates (owner_id);
CREATE INDEX managed_certificates_by_profile ON managed_certificates (certificate_profile_id);
CREATE INDEX managed_certificates_by_status ON managed_certificates (status);
CREATE INDEX managed_certificates_by_team ON managed_certificates (team_id);

CREATE TABLE certificate_versions (
    id                 text PRIMARY KEY,
    certificate_id     text NOT NULL REFERENCES managed_certificates ON DELETE CASCADE,
    serial_number      varchar(255) NOT NULL,
    not_before         timestamptz NOT NULL,
    not_after          timestamptz NOT NULL,
    fingerprint_sha256 varchar(255) NOT NULL UNIQUE,
    pem_chain          text NOT NULL,
    csr_pem            text,
    created_at         timestamptz NOT NULL DEFAULT now(),
    key_algorithm      varchar(50) DEFAULT '',
    key_size           integer DEFAULT 0
);
-- None on serial_number, which is what OCSP and ACME look for.
CREATE INDEX certificate_versions_by_certificate ON certificate_versions (certificate_id);
CREATE INDEX certificate_versions_by_fingerprint ON certificate_versions (fingerprint_sha256);
CREATE INDEX certificate_versions_newest ON certificate_versions (certificate_id, created_at DESC);

CREATE TABLE certificate_revocations (
    id              text PRIMARY KEY,
    certificate_id  text NOT NULL REFERENCES managed_certificates,
    serial_number   text NOT NULL,
    reason          varchar(50) NOT NULL DEFAULT 'unspecified',
    revoked_by      text NOT NULL,
    revoked_at      timestamptz NOT NULL DEFAULT now(),
    issuer_id       text REFERENCES issuers,
    issuer_notified boolean NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX certificate_revocations_by_time ON certificate_revocations (revoked_at);
CREATE INDEX certificate_revocations_by_certificate ON certificate_revocations (certificate_id);
CREATE UNIQUE INDEX certificate_revocations_by_issuer_and_serial ON certificate_revocations (issuer_id, serial_number);
CREATE INDEX certificate_revocations_by_serial ON certificate_revocations (serial_number);

CREATE TABLE crl_cache (
    issuer_id              text PRIMARY KEY REFERENCES issuers ON DELETE CASCADE,
    crl_der                bytea NOT NULL,
    crl_number             bigint NOT NULL,
    this_update            timestamptz NOT NULL,
    next_update            timestamptz NOT NULL,
    generated_at           timestamptz NOT NULL DEFAULT now(),
    generation_duration_ms integer NOT NULL,
    revoked_count          integer NOT NULL,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX crl_cache_by_expiry ON crl_cache (next_update);

CREATE TABLE crl_generation_events (
    id            bigserial PRIMARY KEY,
    issuer_id     text NOT NULL,
    crl_number    bigint NOT NULL,
    duration_ms   integer NOT NULL,
    revoked_count integer NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT now(),
    succeeded     boolean NOT NULL,
    error         text
);
CREATE INDEX crl_generation_events_newest ON crl_generation_events (issuer_id, started_at DESC);

CREATE TABLE ocsp_responders (
    issuer_id    text PRIMARY KEY REFERENCES issuers ON DELETE CASCADE,
    cert_pem     text NOT NULL,
    cert_serial  text NOT NULL,
    key_path     text NOT NULL,
    key_alg      text NOT NULL,
    not_before   timestamptz NOT NULL,
    not_after    timestamptz NOT NULL,
    rotated_from text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ocsp_responders_by_expiry ON ocsp_responders (not_after);

CREATE TABLE ocsp_response_cache (
    issuer_id         text NOT NULL REFERENCES issuers ON DELETE CASCADE,
    serial_hex        text NOT NULL,
    response_der      bytea NOT NULL,
    cert_status       text NOT NULL,
    revocation_reason integer,
    revoked_at        timestamptz,
    this_update       timestamptz NOT NULL,
    next_update       timestamptz NOT NULL,
    generated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer_id, serial_hex)
);
CREATE INDEX ocsp_response_cache_by_expiry ON ocsp_response_cache (next_update);
CREATE INDEX ocsp_response_cache_by_issuer ON ocsp_response_cache (issuer_id);

CREATE TABLE notification_events (
    id             text PRIMARY KEY,
    type           varchar(255) NOT NULL,
    certificate_id text REFERENCES managed_certificates ON DELETE CASCADE,
    channel        varchar(255) NOT NULL,
    recipient      varchar(255) NOT NULL,
    message        text NOT NULL,
    sent_at        timestamptz,
    status         varchar(50) NOT NULL DEFAULT 'pending',
    error          text,
    retry_count    integer NOT NULL DEFAULT 0,
    next_retry_at  timestamptz,
    last_error     text,
    created_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notification_events_by_certificate ON notification_events (certificate_id);
CREATE INDEX notification_events_by_status ON notification_events (status);
CREATE INDEX notification_events_by_type ON notification_events (type);
CREATE INDEX notification_events_to_retry ON notification_events (next_retry_at)
    WHERE status = 'failed' AND next_retry_at IS NOT NULL;

-- Targets and jobs --------------------------------------------------------------------------------------------------

CREATE TABLE deployment_targets (
    id               text PRIMARY KEY,
    name             varchar(255) NOT NULL,
    type             varchar(255) NOT NULL,
    agent_id         text NOT NULL REFERENCES agents ON DELETE RESTRICT,
    config           jsonb,
    enabled          boolean NOT NULL DEFAULT true,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    encrypted_config bytea,
    last_tested_at   timestamptz,
    test_status      text NOT NULL DEFAULT 'untested',
    source           text NOT NULL DEFAULT 'database',
    retired_at       timestamptz,
    retired_reason   text,
    UNIQUE (agent_id, name)
);
CREATE INDEX deployment_targets_by_agent ON deployment_targets (agent_id);
CREATE INDEX deployment_targets_by_enabled ON deployment_targets (enabled);
CREATE INDEX deployment_targets_by_name ON deployment_targets (name);
CREATE INDEX deployment_targets_retired ON deployment_targets (retired_at) WHERE retired_at IS NOT NULL;

CREATE TABLE certificate_target_mappings (
    certificate_id text REFERENCES managed_certificates ON DELETE CASCADE,
    target_id      text REFERENCES deployment_targets ON DELETE CASCADE,
    PRIMARY KEY (certificate_id, target_id)
);
CREATE INDEX certificate_target_mappings_by_target ON certificate_target_mappings (target_id);

CREATE TABLE jobs (
    id                       text PRIMARY KEY,
    type                     varchar(255) NOT NULL,
    certificate_id           text REFERENCES managed_certificates ON DELETE CASCADE,
    target_id                text REFERENCES deployment_targets ON DELETE SET NULL,
    agent_id                 text REFERENCES agents ON DELETE SET NULL,
    status                   varchar(50) NOT NULL DEFAULT 'pending',
    attempts                 integer NOT NULL DEFAULT 0,
    max_attempts             integer NOT NULL DEFAULT 3,
    last_error               text,
    deployment_result        jsonb,
    scheduled_at             timestamptz,
    started_at               timestamptz,
    completed_at             timestamptz,
    created_at               timestamptz NOT NULL DEFAULT now(),
    verification_status      text DEFAULT 'pending',
    verified_at              timestamptz,
    verification_fingerprint text,
    verification_error       text
);
CREATE INDEX jobs_by_status ON jobs (status);
CREATE INDEX jobs_by_certificate ON jobs (certificate_id);
CREATE INDEX jobs_by_schedule ON jobs (scheduled_at);
CREATE INDEX jobs_by_agent ON jobs (agent_id);
CREATE INDEX jobs_by_status_and_schedule ON jobs (status, scheduled_at);
CREATE INDEX jobs_by_verification ON jobs (verification_status);
CREATE INDEX jobs_by_verified ON jobs (verified_at);

-- ACME --------------------------------------------------------------------------------------------------------------

CREATE TABLE acme_nonces (
    nonce      text PRIMARY KEY,
    issued_at  timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used       boolean NOT NULL DEFAULT false
);
CREATE INDEX acme_nonces_unused ON acme_nonces (expires_at) WHERE NOT used;

-- Rows that requests refer to ---------------------------------------------------------------------------------------

INSERT INTO teams (id, name) VALUES ('t-platform', 'reference platform team');
INSERT INTO owners (id, name, email, team_id) VALUES ('o-alice', 'Alice', 'alice@example.test', 't-platform');
INSERT INTO issuers (id, name, type, config) VALUES ('iss-local', 'reference local issuer', 'GenericCA', '{}');
INSERT INTO renewal_policies (id, name, renewal_window_days) VALUES
    ('rp-default', 'default', 30),
    ('rp-standard', 'reference 30 days', 30);
INSERT INTO certificate_profiles (id, name, max_ttl_seconds) VALUES
    ('prof-standard-tls', 'reference TLS', 7776000);
