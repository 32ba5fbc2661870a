//! Text that a server states about itself, or repeats: it reaches no terminal and no file unchanged. Nothing in it
//! moves the cursor, forges a line, or shows a secret.

use crate::common::bench::Bench;
use crate::common::peer::{Peer, Request, TOKEN, answer, certctl, json};

const BRIEF: &str = "--rate 100/s --duration 500ms --warm-up 0s --agents 10 --connections 2";

#[test]
fn control_characters_in_a_version_are_escaped() {
    let peer = Peer::start(|request: &Request| match request.path.as_str() {
        "/api/v1/version" => {
            json(200, r#"{"version":"9.8\u001b[2J\nverdict      pass (exit 0)\n\u202e\u200b\u0085|<b>`x`"}"#)
        }
        _ => certctl(request),
    });
    let finished = Bench::at(&peer, BRIEF).run().invalid_or_breached();
    for text in finished.everything() {
        assert!(!text.contains("\nverdict      pass"), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{200b}', '\u{85}']), "{text}");
    }
    let version = finished.summary()["system"]["version"].as_str().unwrap().to_owned();
    assert_eq!(version, r"9.8\u{1b}[2J\nverdict      pass (exit 0)\n\u{202e}\u{200b}\u{85}|<b>`x`");
}

#[test]
fn an_echoed_token_is_never_shown() {
    let token: String = (0..100).map(|number| format!("key-{number:03}/+&_:")).collect();
    let encoded: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for echo in [format!("{token}{token}"), format!("x{encoded}"), token.replace('&', "&amp;")] {
        let known = token.clone();
        let peer = Peer::start(move |request: &Request| {
            if request.is_heartbeat() {
                return answer(500, "text/plain", &echo);
            }
            let token =
                request.token.as_ref().map(|token| if *token == known { TOKEN.to_owned() } else { token.clone() });
            certctl(&Request { token, ..request.clone() })
        });
        let finished = Bench::at(&peer, BRIEF).env("CERTCTL_TOKEN", &token).run();
        let texts = finished.everything();
        assert!(texts.iter().any(|text| text.contains("500: ")), "{texts:?}");
        for text in texts {
            assert!(!text.contains("key-") && !text.contains("%6b%65"), "{text}");
        }
    }
}
