use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use proptest::prelude::*;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::*;

fn event_loop() -> EventLoop {
    EventLoop::new().unwrap()
}

proptest! {
    #[test]
    fn timers_fire_in_the_order_of_their_moments(moments in prop::collection::vec(0u64..50, 0..40), cancelled: u64) {
        let mut timers = Timers::default();
        let keys: Vec<_> = moments.iter().map(|ns| timers.arm(Moment::from_ns(*ns), Waker::noop().clone())).collect();
        let is_cancelled = |index: usize| cancelled >> (index % 64) & 1 == 1;
        let mut expected: Vec<_> =
            moments.iter().enumerate().filter(|(index, _)| !is_cancelled(*index)).map(|(_, ns)| *ns).collect();
        expected.sort_unstable();
        keys.into_iter().enumerate().filter(|(index, _)| is_cancelled(*index)).for_each(|(_, key)| timers.cancel(key));
        let mut fired = Vec::new();
        for now in 0..50 {
            while timers.fire(Moment::from_ns(now)).is_some() {
                fired.push(now);
            }
        }
        prop_assert_eq!(fired, expected);
        prop_assert_eq!(timers.next(), None);
    }
}

proptest! {
    /// However long looks and the work between them take: what a look shows has come after the one before it began.
    #[test]
    fn an_event_may_be_as_old_as_the_last_look(
        spans in prop::collection::vec((1u64..40_000, 0u64..250, 0.0..1.0), 2..20)
    ) {
        let mut now = Moment::from_ns(1_000_000);
        let mut looks = Looks::begin(now);
        let mut checked = now;
        for (work_ns, shown, share) in spans {
            // Each event takes the look up to a microsecond.
            let look_ns = (share * (20_000 + 1_000 * shown) as f64) as u64;
            let began = now + Duration::from_nanos(work_ns);
            let check = began + Duration::from_nanos(look_ns / 2);
            now = began + Duration::from_nanos(look_ns);
            looks.looked(began, now, shown as usize, true);
            // Anything that came after the check of the look before this one.
            prop_assert!(looks.shown_since() <= checked && looks.shown_since() <= check);
            checked = check;
        }
    }
}

#[test]
fn a_loop_that_waits_is_woken_at_once() {
    let us = |us: u64| Moment::from_ns(us * 1_000);
    let mut looks = Looks::begin(us(1_000));
    looks.looked(us(2_000), us(3_000), 1, true);
    assert_eq!(looks.shown_since(), us(3_000));
    looks.looked(us(3_500), us(3_510), 1, true);
    assert_eq!(looks.shown_since(), us(3_000));
    // What a look could not show was there before it.
    looks.looked(us(4_000), us(4_010), 1, false);
    looks.looked(us(4_500), us(4_510), 1, true);
    assert_eq!(looks.shown_since(), us(3_500));
}

#[test]
fn connections_take_odd_and_even_ports() {
    const CONNECTIONS: usize = 32;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) < (Some(6), Some(8)) {
        eprintln!("left out: Linux {} always prefers even ports", release.trim());
        return;
    }
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        event_loop().block_on(async {
            let mut connections = Vec::new();
            for _ in 0..CONNECTIONS {
                connections.push(TcpSocket::connect(address, None).await.unwrap());
            }
        });
        let odd = (0..CONNECTIONS).filter(|_| listener.accept().unwrap().1.port() % 2 == 1).count();
        assert!(odd > 0 && odd < CONNECTIONS, "{odd} of {CONNECTIONS} ports to {address} are odd");
    }
}

#[test]
fn a_timeout_ends_a_wait() {
    event_loop().block_on(async {
        let never = std::future::pending::<()>();
        assert_eq!(timeout(Duration::from_millis(1), never).await, Err(Elapsed));
        assert_eq!(timeout(Duration::from_secs(3_600), async { 7 }).await, Ok(7));
    });
}

#[test]
fn a_busy_task_does_not_keep_timers_from_firing() {
    event_loop().block_on(async {
        let mut tasks = Tasks::default();
        tasks.start(async {
            loop {
                yield_now().await;
            }
        });
        sleep(Duration::from_millis(1)).await;
    });
}

#[test]
fn all_tasks_are_awaited() {
    event_loop().block_on(async {
        let (mut tasks, ended) = (Tasks::default(), Rc::new(Cell::new(0)));
        tasks.all_ended().await;
        for ms in [3, 0, 1] {
            let ended = ended.clone();
            tasks.start(async move {
                sleep(Duration::from_millis(ms)).await;
                ended.set(ended.get() + 1);
            });
        }
        tasks.all_ended().await;
        assert_eq!(ended.get(), 3);
    });
}

#[test]
fn dropped_tasks_end_and_free_what_they_own() {
    let owned = Rc::new(());
    event_loop().block_on(async {
        let mut tasks = Tasks::default();
        for wait in [true, false] {
            let owned = owned.clone();
            tasks.start(async move {
                sleep(Duration::from_secs(if wait { 3_600 } else { 0 })).await;
                drop(owned);
            });
        }
        yield_now().await;
        drop(tasks);
        assert_eq!(Rc::strong_count(&owned), 1);
    });
    // So do those of a loop that ends.
    let event_loop = event_loop();
    let held = owned.clone();
    event_loop.block_on(async {
        detach(async move {
            sleep(Duration::from_secs(3_600)).await;
            drop(held);
        });
        yield_now().await;
    });
    event_loop.end(Duration::ZERO);
    assert_eq!(Rc::strong_count(&owned), 1);
}

#[test]
fn other_threads_hand_over_their_results() {
    let event_loop = event_loop();
    event_loop.block_on(async {
        assert_eq!(on_thread(|| 7).await.unwrap(), 7);
        let panicked = on_thread(|| std::panic::resume_unwind(Box::new("on purpose"))).await;
        assert_eq!(panicked.map(|(): ()| ()).unwrap_err().to_string(), "it panicked");
    });
    event_loop.end(Duration::from_secs(3_600));
}

/// Starts a peer of one connection.
fn peer(serve: impl FnOnce(std::net::TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    address
}

#[test]
fn a_socket_waits_for_a_peer_that_reads_slowly() {
    // More than the kernel's buffers take, so that the socket must be seen to become writable again, many times.
    const BYTES: usize = 32 << 20;
    let address = peer(|mut tcp| {
        let (mut buffer, mut received) = (vec![0; 1 << 16], 0);
        while received < BYTES {
            received += tcp.read(&mut buffer).unwrap();
        }
        tcp.write_all(b"all").unwrap();
    });
    event_loop().block_on(async {
        let socket = TcpSocket::connect(address, None).await.unwrap();
        let bytes = vec![7; 1 << 20];
        let mut sent = 0;
        while sent < BYTES {
            let most = bytes.len().min(BYTES - sent);
            sent += std::future::poll_fn(|context| socket.poll_write(context, &bytes[..most])).await.unwrap();
        }
        let (mut buffer, mut answer) = ([0; 2], Vec::new());
        loop {
            match std::future::poll_fn(|context| socket.poll_read(context, &mut buffer)).await.unwrap() {
                0 => break,
                length => answer.extend_from_slice(&buffer[..length]),
            }
        }
        assert_eq!(answer, b"all");
    });
}

#[test]
fn a_look_shows_bytes_that_nobody_waits_for() {
    let address = peer(|mut tcp| {
        tcp.write_all(b"x").unwrap();
        // Keeps the connection open until the client closes it.
        let _ = tcp.read(&mut [0]);
    });
    event_loop().block_on(async {
        let socket = TcpSocket::connect(address, None).await.unwrap();
        while !socket.is_readable() {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(matches!(socket.read_now(&mut [0; 2]), Poll::Ready(Ok(1))));
        assert!(!socket.is_readable() && socket.read_now(&mut [0; 2]).is_pending());
    });
}

#[test]
fn a_refused_connection_is_an_error() {
    // Bound, so that nobody else gets the port, but not listening.
    let held = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::bind(&held, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = SocketAddr::try_from(rustix::net::getsockname(&held).unwrap()).unwrap();
    let refused = event_loop().block_on(TcpSocket::connect(address, None)).map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}
