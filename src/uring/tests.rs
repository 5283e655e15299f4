//! The ring against the real kernel.

use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::*;
use crate::stdx::oneshot;

#[test]
fn files_are_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(folder.path().join("f"))
        .unwrap();
    block_on(async {
        let (done, buffer) = file::write_at(&file, b"hello ring".to_vec(), 5).await;
        assert_eq!((done.unwrap(), buffer.len()), (10, 10));
        file::fdatasync(&file).await.unwrap();
        let (done, buffer) = file::read_at(&file, vec![0xff; 64], 0).await;
        assert_eq!(done.unwrap(), 15);
        assert_eq!(&buffer[..15], b"\0\0\0\0\0hello ring");
    });
}

#[test]
fn errors_are_the_kernels() {
    let folder = tempfile::tempdir().unwrap();
    let place = std::fs::File::open(folder.path()).unwrap();
    let (done, _) = block_on(file::read_at(&place, vec![0; 8], 0));
    assert_eq!(done.unwrap_err().raw_os_error(), Some(libc::EISDIR));
}

#[test]
fn tasks_run_beside_and_wake_each_other() {
    let total = block_on(async {
        let (sender, receiver) = oneshot();
        let seen = Rc::new(std::cell::Cell::new(0));
        let inner = Rc::clone(&seen);
        spawn(async move {
            sleep(Duration::from_millis(5)).await;
            inner.set(41);
            sender.send(1);
        });
        receiver.await.unwrap() + seen.get()
    });
    assert_eq!(total, 42);
}

#[test]
fn another_thread_ends_the_sleep() {
    let (sender, receiver) = oneshot();
    let helper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        sender.send("woken");
    });
    let began = Instant::now();
    assert_eq!(block_on(timeout(Duration::from_secs(5), receiver)), Ok(Ok("woken")));
    assert!(began.elapsed() < Duration::from_secs(2));
    helper.join().unwrap();
}

#[test]
fn sleeps_to_the_same_moment_all_end_and_those_given_up_wake_nobody() {
    let (nap, night) = (Duration::from_millis(10), Duration::from_secs(600));
    let began = Instant::now();
    block_on(async {
        let ended = Rc::new(std::cell::Cell::new(0));
        for _ in 0..100 {
            let ended = Rc::clone(&ended);
            spawn(async move {
                assert_eq!(timeout(nap, sleep(night)).await, Err(Elapsed));
                assert_eq!(timeout(night, sleep(nap)).await, Ok(()));
                ended.set(ended.get() + 1);
            });
        }
        while ended.get() < 100 {
            sleep(nap).await;
        }
    });
    assert!((2 * nap..night / 100).contains(&began.elapsed()));
}

#[test]
fn a_timeout_drops_what_it_waited_for() {
    let (_far, near) = std::os::unix::net::UnixStream::pair().unwrap();
    let near: std::os::fd::OwnedFd = near.into();
    block_on(async {
        let waited = timeout(Duration::from_millis(20), net::recv(&near, vec![0; 10])).await;
        assert!(waited.is_err());
        sleep(Duration::from_millis(5)).await;
    });
}

#[test]
fn sockets_carry_large_messages() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = vec![0; 3 << 20];
        std::io::Read::read_exact(&mut stream, &mut all).unwrap();
        std::io::Write::write_all(&mut stream, &all[all.len() - 7..]).unwrap();
    });
    block_on(async {
        let fd = net::connect_unix(&path).await.unwrap();
        let mut message = vec![1u8; 3 << 20];
        message[(3 << 20) - 7..].copy_from_slice(b"the end");
        net::send_all(&fd, message).await.0.unwrap();
        let (count, buffer) = net::recv(&fd, vec![0; 100]).await;
        assert_eq!(&buffer[..count.unwrap()], b"the end");
    });
    echo.join().unwrap();
}

#[test]
fn tcp_connects_or_says_why() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    block_on(net::connect_tcp(address)).unwrap();
    drop(listener);
    let refused = block_on(net::connect_tcp(address)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// Spawns a task that does the same, until `stop`; counts them.
fn hop(hops: Rc<std::cell::Cell<u32>>, stop: Rc<std::cell::Cell<bool>>) {
    if !stop.get() {
        hops.set(hops.get() + 1);
        spawn(async move { hop(hops, stop) });
    }
}

#[test]
fn tasks_that_spawn_tasks_run_in_one_turn_and_do_not_keep_completions_out() {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut &far, b"x").unwrap();
    let hops = block_on(async {
        let (hops, stop) = (Rc::default(), Rc::default());
        hop(Rc::clone(&hops), Rc::clone(&stop));
        timeout(Duration::from_secs(5), poll_readable(&near)).await.unwrap().unwrap();
        stop.set(true);
        hops.get()
    });
    assert!((8..1000).contains(&hops), "{hops} tasks before the completion was seen");
}

#[test]
fn a_busy_task_does_not_keep_completions_out() {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    let helper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        std::io::Write::write_all(&mut &far, b"x").unwrap();
        far
    });
    let began = Instant::now();
    block_on(async {
        let done = Rc::new(std::cell::Cell::new(false));
        let seen = Rc::clone(&done);
        spawn(std::future::poll_fn(move |context| {
            if seen.get() || began.elapsed() > Duration::from_secs(5) {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        }));
        poll_readable(&near).await.unwrap();
        done.set(true);
    });
    assert!(began.elapsed() < Duration::from_secs(2));
    helper.join().unwrap();
}

#[test]
fn a_core_that_looks_for_news_misses_no_deadline_no_wake_and_no_bytes() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    let long = Duration::from_secs(5);
    block_on(async {
        let began = Instant::now();
        expect_within(long);
        sleep(Duration::from_millis(20)).await;
        assert!((Duration::from_millis(20)..long).contains(&began.elapsed()));

        let (near, far) = UnixStream::pair().unwrap();
        let near = near.into();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            (&far).write_all(b"news").unwrap();
            far
        });
        expect_within(long);
        let (count, buffer) = net::recv(&near, vec![0; 8]).await;
        assert_eq!((count.unwrap(), &buffer[..4]), (4, &b"news"[..]));
        drop(writer.join().unwrap());

        let (sender, receiver) = oneshot();
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            sender.send(7);
        });
        expect_within(long);
        assert_eq!(receiver.await.ok(), Some(7));
        other.join().unwrap();
        assert!(began.elapsed() < long, "it came before anybody gave up looking");
    });
}
