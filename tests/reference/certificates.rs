//! Creating, listing and showing certificates.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::Client;
use crate::common::needs::needs;
use crate::server::{ADMIN, Server, VIEWER};

const PATH: &str = "/api/v1/certificates";

/// Returns a body that certctl accepts.
fn body(name: &str) -> Value {
    json!({
        "name": name, "common_name": name, "sans": [name], "owner_id": "o-alice", "team_id": "t-platform",
        "issuer_id": "iss-local", "renewal_policy_id": "rp-standard",
    })
}

fn list(client: &mut Client, query: &str) -> Value {
    let answer = client.exchange("GET", &format!("{PATH}{query}"), Some(VIEWER), "");
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    answer.json()
}

/// Returns the ids on a page.
fn ids(page: &Value) -> Vec<&str> {
    let rows = page["data"].as_array().expect("a list");
    rows.iter().map(|row| row["id"].as_str().expect("an id")).collect()
}

#[test]
fn a_new_certificate_is_returned_and_found() {
    for server in Server::on_both(3, &[]) {
        let mut client = server.connect();
        let answer = client.exchange("POST", PATH, Some(ADMIN), &body("a.example.test").to_string());
        assert_eq!((answer.status, answer.header("content-type")), (201, Some("application/json")));
        assert_eq!(answer.header("location"), None);
        let created = answer.json();
        let (id, at) = (created["id"].as_str().expect("an id"), created["created_at"].as_str().expect("a time"));
        assert!(id.starts_with("cert-") && at.ends_with('Z'), "{id} {at}");
        let expected = format!(
            "{{\"id\":\"{id}\",\"name\":\"a.example.test\",\"common_name\":\"a.example.test\",\
             \"sans\":[\"a.example.test\"],\"environment\":\"\",\"owner_id\":\"o-alice\",\"team_id\":\"t-platform\",\
             \"issuer_id\":\"iss-local\",\"target_ids\":null,\"renewal_policy_id\":\"rp-standard\",\
             \"status\":\"Pending\",\"expires_at\":\"0001-01-01T00:00:00Z\",\"tags\":{{}},\
             \"created_at\":\"{at}\",\"updated_at\":\"{at}\"}}\n"
        );
        assert_eq!(answer.body, expected);
        let shown = client.exchange("GET", &format!("{PATH}/{id}"), Some(VIEWER), "");
        assert_eq!((shown.status, shown.header("etag")), (200, None));
        let shown = shown.json();
        assert_eq!((&shown["name"], &shown["target_ids"]), (&created["name"], &json!([])));
        assert_eq!(shown["expires_at"], "0001-01-01T00:00:00Z");
        let page = list(&mut client, "");
        assert_eq!((&page["total"], ids(&page).last().copied()), (&json!(4), Some(id)));
        let unknown = client.exchange("GET", &format!("{PATH}/nope"), Some(VIEWER), "");
        assert_eq!(unknown.failure(), (404, "Certificate not found".to_owned()));
        server.until_work(&json!({"certificates_created": 1, "certificates_listed": 1, "audit_rows": 4}));
    }
}

#[test]
fn fields_of_the_request_are_stored() {
    for server in Server::on_both(0, &[]) {
        let mut request = body("full.example.test");
        for (field, value) in [
            ("id", json!("cert-mine")),
            ("environment", json!("production")),
            ("certificate_profile_id", json!("prof-standard-tls")),
            ("status", json!("Active")),
            ("expires_at", json!("2031-01-01T01:30:00.5+01:00")),
            ("tags", json!({"source": "certctl-bench"})),
            ("target_ids", json!(["t-1"])),
        ] {
            request[field] = value;
        }
        let mut client = server.connect();
        // Text after the object does not matter, nor do unknown fields.
        request["unknown"] = json!(1);
        let answer = client.exchange("POST", PATH, Some(ADMIN), &format!("{request} trailing"));
        assert_eq!((answer.status, &answer.json()["target_ids"]), (201, &json!(["t-1"])));
        let shown = client.exchange("GET", &format!("{PATH}/cert-mine"), Some(ADMIN), "").json();
        for (field, value) in request.as_object().expect("an object") {
            match field.as_str() {
                "expires_at" => assert_eq!(shown[field], "2031-01-01T00:30:00.5Z"),
                "target_ids" => assert_eq!(shown[field], json!([])),
                "unknown" => assert!(shown.get(field).is_none()),
                _ => assert_eq!(shown[field], *value, "{field}"),
            }
        }
    }
}

#[test]
fn the_first_invalid_field_is_named() {
    let server = Server::in_memory(&["--certificates", "0"]);
    let mut client = server.connect();
    let mut refused = |body: &str| client.exchange("POST", PATH, Some(ADMIN), body).failure();
    for undecodable in ["", "{oops", "[]", "1", r#"{"common_name":1}"#, r#"{"expires_at":"tomorrow"}"#] {
        assert_eq!(refused(undecodable), (400, "Invalid request body".to_owned()), "{undecodable}");
    }
    for empty in ["{}", "null", r#"{"common_name":null}"#] {
        assert_eq!(refused(empty), (400, "common_name is required".to_owned()), "{empty}");
    }
    let mut request = json!({"common_name": "a..b"});
    let mut expect =
        |request: &Value, message: &str| assert_eq!(refused(&request.to_string()), (400, message.to_owned()));
    expect(&request, "invalid hostname format: hostname has empty label");
    request["common_name"] = json!("a.b");
    for field in ["owner_id", "team_id", "issuer_id", "name", "renewal_policy_id"] {
        expect(&request, &format!("{field} is required"));
        request[field] = json!("x");
    }
    assert_eq!(server.work()["certificates_created"], 0);
}

#[test]
fn schema_violations_follow_the_behaviour() {
    for (behaviour, taken, unknown) in [("as-built", 500, 500), ("as-documented", 409, 400)] {
        for server in Server::on_both(0, &["--behaviour", behaviour]) {
            let mut client = server.connect();
            let mut status = |body: &Value| client.exchange("POST", PATH, Some(ADMIN), &body.to_string()).status;
            assert_eq!(status(&body("a.b")), 201);
            assert_eq!(status(&body("a.b")), taken);
            for field in ["owner_id", "team_id", "issuer_id", "renewal_policy_id", "certificate_profile_id"] {
                let mut body = body("c.d");
                body[field] = json!("nobody");
                assert_eq!(status(&body), unknown, "{field}");
            }
            assert_eq!(server.work()["certificates_created"], 1);
        }
    }
}

#[test]
fn creating_a_certificate_needs_the_permission() {
    let server = Server::in_memory(&["--certificates", "1"]);
    let mut client = server.connect();
    assert_eq!(client.exchange("POST", PATH, Some(VIEWER), "{}").status, 403);
    assert_eq!(client.exchange("POST", PATH, None, "{}").status, 401);
    let other = client.exchange("PATCH", PATH, Some(ADMIN), "{}");
    assert_eq!((other.status, other.header("allow")), (405, Some("GET, HEAD, POST")));
    let head = client.exchange("HEAD", PATH, Some(VIEWER), "");
    assert_eq!((head.status, head.header("allow"), head.header("content-length")), (405, None, Some("62")));
}

#[test]
fn pages_have_the_requested_size_within_bounds() {
    for server in Server::on_both(120, &[]) {
        let mut client = server.connect();
        let page = list(&mut client, "?per_page=50");
        assert_eq!((&page["total"], &page["page"], &page["per_page"]), (&json!(120), &json!(1), &json!(50)));
        assert_eq!((ids(&page).len(), ids(&page)[0]), (50, "cert-loadtest-bulk-00001"));
        for same in ["", "?per_page=0", "?per_page=501", "?page=0", "?page=x", "?nonsense=1"] {
            assert_eq!(list(&mut client, same), page, "{same}");
        }
        let last = list(&mut client, "?page=3");
        assert_eq!((ids(&last).len(), ids(&last)[0]), (20, "cert-loadtest-bulk-00101"));
        assert_eq!(ids(&list(&mut client, "?per_page=500")).len(), 120);
        let sized = list(&mut client, "?page_size=2&per_page=50&page=2");
        assert_eq!(ids(&sized), ["cert-loadtest-bulk-00003", "cert-loadtest-bulk-00004"]);
        assert_eq!(sized["per_page"], 50);
        let past = client.exchange("GET", &format!("{PATH}?page=9"), Some(VIEWER), "");
        assert_eq!(past.body, "{\"data\":[],\"total\":120,\"page\":9,\"per_page\":50}\n");
    }
}

#[test]
fn lists_are_filtered_and_ordered() {
    for server in Server::on_both(9, &[]) {
        let mut client = server.connect();
        client.exchange("POST", PATH, Some(ADMIN), &body("zz.example.test").to_string());
        assert_eq!(list(&mut client, "?status=Pending")["total"], 1);
        assert_eq!(list(&mut client, "?status=Active&environment=loadtest")["total"], 9);
        assert_eq!(list(&mut client, "?owner_id=o-alice&team_id=t-platform&issuer_id=iss-local")["total"], 10);
        for none in ["?status=active", "?owner_id=x", "?profile_id=prof-standard-tls", "?agent_id=ag-loadtest-00001"] {
            assert_eq!(list(&mut client, none)["data"], json!([]), "{none}");
        }
        assert_eq!(ids(&list(&mut client, "?sort=-name"))[1], "cert-loadtest-bulk-00009");
        assert_eq!(ids(&list(&mut client, "?sort=commonName"))[0], "cert-loadtest-bulk-00001");
        assert_eq!(ids(&list(&mut client, "?sort=createdAt&sort_desc=true"))[1], "cert-loadtest-bulk-00009");
        assert_eq!(list(&mut client, "?sort=expiresAt&page_size=1")["data"][0]["name"], "zz.example.test");
        assert_eq!(ids(&list(&mut client, "?sort=nonsense"))[0], "cert-loadtest-bulk-00001");
    }
}

#[test]
fn an_unchanged_page_is_answered_304() {
    for server in Server::on_both(200, &[]) {
        let mut client = server.connect();
        let first = client.exchange("GET", PATH, Some(ADMIN), "");
        let tag = first.header("etag").expect("a tag").to_owned();
        assert_eq!((tag.len(), first.header("transfer-encoding")), (66, Some("chunked")));
        let bearer = format!("Bearer {ADMIN}");
        let mut get =
            |known: &str| client.send("GET", PATH, &[("Authorization", &bearer), ("If-None-Match", known)], "");
        for known in [tag.as_str(), "*", &format!("\"x\", {tag}")] {
            let again = get(known);
            assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", Some(tag.as_str())));
            assert_eq!((again.header("content-type"), again.header("content-length")), (None, None));
            assert!(again.header("x-request-id").is_some());
        }
        assert_eq!(get(&format!("W/{tag}")).status, 200);
        let long = client.exchange("GET", &format!("{PATH}?per_page=200"), Some(ADMIN), "");
        assert!(long.body.len() > 64 * 1_024 && long.header("etag").is_none(), "{}", long.body.len());
        assert_eq!(server.work()["certificates_listed"], 6);
    }
}

#[test]
fn cursors_follow_the_behaviour() {
    for server in Server::on_both(7, &[]) {
        let mut client = server.connect();
        let first = list(&mut client, "?cursor=x&page_size=3");
        assert_eq!((&first["total"], &first["page_size"]), (&json!(7), &json!(3)));
        let next = first["next_cursor"].as_str().expect("a cursor");
        assert_eq!(list(&mut client, &format!("?cursor={next}&page_size=3")), first);
    }
    for server in Server::on_both(7, &["--behaviour", "as-documented"]) {
        let mut client = server.connect();
        let (mut cursor, mut seen) = ("x".to_owned(), Vec::new());
        for rows in [3, 3, 1, 0] {
            let page = list(&mut client, &format!("?cursor={cursor}&page_size=3"));
            assert_eq!((ids(&page).len(), &page["total"]), (rows, &json!(7)));
            seen.extend(ids(&page).into_iter().map(str::to_owned));
            cursor = page["next_cursor"].as_str().unwrap_or_default().to_owned();
        }
        assert_eq!((cursor.as_str(), seen.len()), ("", 7));
        assert_eq!(BTreeSet::from_iter(&seen).len(), 7);
    }
}

#[test]
fn each_request_costs_the_same_statements_as_in_certctl() {
    needs!(Postgresql);
    let server = Server::on_postgres(3, &[]);
    let cost = |method: &str, path: &str, body: &str| {
        server.statements(|client| _ = client.exchange(method, &format!("{PATH}{path}"), Some(ADMIN), body))
    };
    let (gate, audit) = ("SELECT actor_roles", "INSERT audit_events");
    let (row, mappings) = ("SELECT managed_certificates", "SELECT certificate_target_mappings");
    let insert = "INSERT managed_certificates";
    assert_eq!(cost("POST", "", &body("a.b").to_string()), [gate, insert, audit]);
    assert_eq!(cost("POST", "", "{}"), [gate, audit]);
    assert_eq!(cost("GET", "", ""), [gate, row, row, mappings, audit]);
    assert_eq!(cost("GET", "?page=9", ""), [gate, row, row, audit]);
    assert_eq!(cost("GET", "/cert-loadtest-bulk-00001", ""), [gate, row, mappings, audit]);
    assert_eq!(cost("GET", "/nope", ""), [gate, row, audit]);
    assert_eq!(cost("PATCH", "", ""), [audit]);
    // Nothing beside the row: no job, and no audit row but those of the requests.
    assert_eq!(server.sql_number("SELECT count(*) FROM jobs"), 0);
    assert_eq!(server.sql_number("SELECT count(*) FROM audit_events WHERE resource_type <> 'api'"), 0);
}
