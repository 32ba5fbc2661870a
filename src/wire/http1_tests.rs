use proptest::prelude::*;

use super::*;

/// Feeds `bytes` in pieces of the given sizes (the last one repeats), then the end of input if `eof` is set.
fn parse(method: Method, bytes: &[u8], pieces: &[usize], eof: bool) -> Result<(Parser, usize), ParseError> {
    let mut parser = Parser::default();
    parser.start(method);
    let (mut used, mut sizes) = (0, pieces.iter().copied().chain(std::iter::repeat(*pieces.last().unwrap_or(&1))));
    while used < bytes.len() {
        let piece = &bytes[used..bytes.len().min(used + sizes.next().unwrap().max(1))];
        let taken = parser.feed(piece)?;
        used += taken;
        if taken < piece.len() {
            return Ok((parser, used));
        }
    }
    if eof {
        parser.feed_eof()?;
    }
    Ok((parser, used))
}

fn whole(bytes: &[u8]) -> Result<(Parser, usize), ParseError> {
    parse(Method::Get, bytes, &[usize::MAX], false)
}

fn error_of(bytes: &[u8]) -> ParseError {
    parse(Method::Get, bytes, &[usize::MAX], true).unwrap_err()
}

const HEARTBEAT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id:  a b \r\n\
    Content-Length: 32\r\n\r\n{\"status\":\"heartbeat_recorded\"}\n";

#[test]
fn a_response_with_a_length_is_parsed() {
    let (parser, used) = whole(HEARTBEAT).unwrap();
    let response = parser.response().unwrap();
    assert_eq!((response.status, response.keep_alive, used), (200, true, HEARTBEAT.len()));
    assert_eq!(response.body, b"{\"status\":\"heartbeat_recorded\"}\n");
    assert_eq!(response.header("x-request-id"), Some(&b"a b"[..]));
    assert_eq!(response.header("absent"), None);
    assert!(response.is_json());
}

#[test]
fn json_is_recognised_by_its_content_type() {
    for (value, is_json) in [
        ("application/json", true),
        ("application/json; charset=utf-8", true),
        ("Application/Problem+JSON", true),
        ("text/html", false),
        ("text/plain; note=application/json", false),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\nContent-Type: {value}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(whole(bytes.as_bytes()).unwrap().0.response().unwrap().is_json(), is_json, "{value}");
    }
}

#[test]
fn chunks_with_extensions_and_trailers_are_parsed() {
    let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        4;x=y\r\nWiki\r\nA \r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n";
    let (parser, used) = whole(bytes).unwrap();
    assert_eq!(parser.response().unwrap().body, b"Wiki0123456789");
    assert_eq!(used, bytes.len());
}

#[test]
fn a_folded_field_is_parsed_as_one() {
    for fold in ["\r\n ", "\n\t", " \r\n  \r\n "] {
        let bytes = format!("HTTP/1.1 200 OK\r\nX:{fold}a{fold}b\r\nContent-Length:{fold}1\r\n\r\n c");
        for piece in [1, 7, usize::MAX] {
            let (parser, used) = parse(Method::Get, bytes.as_bytes(), &[piece], false).unwrap();
            let response = parser.response().unwrap();
            let (first, last) = (response.header("x").unwrap()[0], response.header("x").unwrap().last().copied());
            assert_eq!((first, last, response.body), (b'a', Some(b'b'), &b" "[..]), "{fold:?}");
            assert_eq!(used, bytes.len() - 1);
        }
    }
}

#[test]
fn a_content_coding_is_reported() {
    for (fields, coding, is_json) in [
        ("", None, true),
        ("Content-Encoding: identity\r\n", None, true),
        ("Content-Encoding: gzip\r\n", Some(&b"gzip"[..]), false),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}Content-Length: 0\r\n\r\n");
        let (parser, _) = whole(bytes.as_bytes()).unwrap();
        let response = parser.response().unwrap();
        assert_eq!((response.coding(), response.is_json()), (coding, is_json));
    }
}

#[test]
fn answers_to_head_and_of_some_statuses_have_no_body() {
    for status in [204, 304] {
        let bytes = format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\n");
        assert!(whole(bytes.as_bytes()).unwrap().0.response().is_some(), "{status}");
    }
    let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(parse(Method::Head, bytes, &[usize::MAX], false).unwrap().0.response().is_some());
    assert!(whole(bytes).unwrap().0.response().is_none());
}

#[test]
fn interim_responses_are_skipped_up_to_a_bound() {
    let interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    let (parser, _) = whole(&[interim, HEARTBEAT].concat()).unwrap();
    assert_eq!(parser.response().unwrap().status, 200);
    let flood = [interim.repeat(9), HEARTBEAT.to_vec()].concat();
    assert!(matches!(whole(&flood), Err(ParseError::Malformed(_))));
    assert!(matches!(whole(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), Err(ParseError::Malformed(_))));
}

#[test]
fn keep_alive_follows_version_and_connection_header() {
    for (head, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Upgrade, Close", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", true),
    ] {
        let (parser, _) = whole(format!("{head}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(parser.response().unwrap().keep_alive, keep_alive, "{head}");
    }
    let (parser, _) = parse(Method::Get, b"HTTP/1.1 200 OK\r\n\r\nuntil the end", &[4], true).unwrap();
    let response = parser.response().unwrap();
    assert_eq!((response.body, response.keep_alive), (&b"until the end"[..], false));
}

#[test]
fn a_truncated_response_is_reported_by_its_part() {
    assert_eq!(error_of(b""), ParseError::NoResponse);
    assert_eq!(error_of(b"HTTP/1.1 200 OK\r\nConte"), ParseError::EofInHead);
    assert_eq!(error_of(b"HTTP/1.1 103 x\r\n\r\n"), ParseError::EofInHead);
    assert_eq!(error_of(&HEARTBEAT[..HEARTBEAT.len() - 1]), ParseError::EofInBody);
    assert_eq!(error_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nWi"), ParseError::EofInBody);
    assert_eq!(error_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"), ParseError::EofInBody);
}

#[test]
fn oversized_responses_are_refused() {
    let mut head = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    head.resize(MAX_HEAD_BYTES + 1, b'x');
    assert_eq!(error_of(&head), ParseError::HeadTooLarge);
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
    assert_eq!(error_of(many.as_bytes()), ParseError::HeadTooLarge);
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(endless.len() + MAX_BODY_BYTES + 1, b'x');
    assert_eq!(error_of(&endless), ParseError::BodyTooLarge { max: MAX_BODY_BYTES });
    // A body announced as too long is refused at once, and the bound is that of the exchange.
    let mut parser = Parser::default();
    parser.bound_body(10);
    for (length, refused) in [(10, false), (11, true)] {
        parser.start(Method::Get);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let too_large = parser.feed(head.as_bytes()) == Err(ParseError::BodyTooLarge { max: 10 });
        assert_eq!(too_large, refused, "{length}");
    }
}

#[test]
fn malformed_responses_are_refused() {
    for text in [
        "<html>not http</html>\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 999 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nab\r\n",
        "HTTP/1.1 200 OK\r\n Folded: onto the status line\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n ,6\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: , \r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/2",
    ] {
        assert!(matches!(error_of(text.as_bytes()), ParseError::Malformed(_)), "{text:?}");
    }
}

#[test]
fn bytes_after_a_response_are_not_consumed() {
    let (parser, used) = whole(&[HEARTBEAT, b"surplus"].concat()).unwrap();
    assert!(parser.response().is_some());
    assert_eq!(used, HEARTBEAT.len());
}

/// Returns a strategy for valid responses of any framing, each with the body that a reader must find in it.
fn responses() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let body = prop::collection::vec(any::<u8>(), 0..300);
    let length = body.clone().prop_map(|body| {
        let head = format!("HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: {}\r\n\r\n", body.len());
        ([head.as_bytes(), &body].concat(), body)
    });
    let chunked = (body, prop::collection::vec(1usize..80, 1..20)).prop_map(|(body, sizes)| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let (mut rest, mut sizes) = (&body[..], sizes.iter().cycle());
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
            rest = tail;
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        (bytes, body)
    });
    prop_oneof![length, chunked]
}

proptest! {
    #[test]
    fn any_split_into_pieces_parses_alike(
        (bytes, body) in responses(), pieces in prop::collection::vec(1usize..50, 1..40), surplus in 0usize..20
    ) {
        let sent = [bytes.clone(), vec![b'!'; surplus]].concat();
        let (parser, used) = parse(Method::Get, &sent, &pieces, false).unwrap();
        prop_assert_eq!(parser.response().unwrap().body, &body[..]);
        // Surplus bytes are never taken for a part of the response.
        prop_assert!(used == bytes.len() || surplus == 0);
    }

    #[test]
    fn a_cut_response_is_never_complete((bytes, _) in responses(), cut in 0usize..1000) {
        let cut = cut % bytes.len();
        let result = parse(Method::Get, &bytes[..cut], &[7], true);
        prop_assert!(result.is_err(), "cut at {} of {}", cut, bytes.len());
    }

    #[test]
    fn arbitrary_bytes_never_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), pieces in prop::collection::vec(1usize..50, 1..9)) {
        let _ = parse(Method::Get, &bytes, &pieces, true);
        let _ = parse(Method::Get, &[b"HTTP/1.1 200 OK\r\n".to_vec(), bytes.clone()].concat(), &pieces, true);
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let _ = parse(Method::Get, &[chunked, bytes].concat(), &pieces, true);
    }
}
