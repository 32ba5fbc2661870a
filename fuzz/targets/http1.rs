//! The HTTP/1.1 parser: however a response is cut into pieces, the result is the same, and never a panic.
//!
//! Input: a byte for the method, a byte for the size of the pieces, and the peer's bytes.

#![no_main]

use certctl_bench::wire::http1::{ParseError, Parser};
use certctl_bench::wire::request::Method;
use libfuzzer_sys::fuzz_target;

/// The result of a response: status, body, whether the connection is kept, and how many bytes belonged to it.
type Parsed = Result<(u16, Vec<u8>, bool, usize), ParseError>;

fuzz_target!(|data: &[u8]| {
    let [method, piece, bytes @ ..] = data else { return };
    let method = [Method::Get, Method::Post, Method::Head][usize::from(method % 3)];
    let whole = parse(method, bytes, usize::MAX);
    for piece in [1, usize::from(*piece).max(1), 4_096] {
        match (&whole, &parse(method, bytes, piece)) {
            (Ok(whole), Ok(cut)) => assert_eq!(whole, cut, "pieces of {piece}"),
            // The first of several faults may differ.
            (Err(_), Err(_)) => {}
            (whole, cut) => panic!("pieces of {piece}: {cut:?}, whole: {whole:?}"),
        }
    }
    if let Ok((status, body, _, used)) = whole {
        assert!((200..=599).contains(&status));
        assert!(used <= bytes.len() && body.len() <= used);
    }
});

fn parse(method: Method, bytes: &[u8], piece: usize) -> Parsed {
    let mut parser = Parser::default();
    parser.start(method);
    let mut used = 0;
    for piece in bytes.chunks(piece.min(bytes.len().max(1))) {
        let taken = parser.feed(piece)?;
        used += taken;
        if taken < piece.len() {
            break;
        }
    }
    parser.feed_eof()?;
    let response = parser.response().expect("a response that ended well is there");
    // Looks through every field.
    let _ = (response.is_json(), response.header("no-such-field"));
    Ok((response.status, response.body.to_vec(), response.keep_alive, used))
}
