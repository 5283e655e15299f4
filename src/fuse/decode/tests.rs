//! Messages as the kernel lays them out.

use proptest::prelude::*;

use super::*;

fn header(code: u32, node: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(code.to_ne_bytes());
    bytes.extend(99u64.to_ne_bytes());
    bytes.extend(node.to_ne_bytes());
    [1000u32, 100, 4321, 0].iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
    assert_eq!(bytes.len(), IN_HEADER_BYTES);
    bytes
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

fn decoded(header: &[u8], fixed: &[u8], rest: &[u8]) -> Result<Request, i32> {
    decode(header, fixed, rest, || Payload(Box::new(rest.to_vec())))
}

#[test]
fn who_asks_and_what() {
    let request = decoded(&header(opcode::LOOKUP, 7), &[], b"name\0").unwrap();
    assert_eq!((request.unique, request.caller.uid, request.caller.pid), (99, 1000, 4321));
    let Op::Lookup { dir: Ino(7), name } = request.op else { panic!("{request:?}") };
    assert_eq!(&*name, b"name");
}

#[test]
fn two_names() {
    let fixed = [longs(&[8]), words(&[1, 0])].concat();
    let request = decoded(&header(opcode::RENAME2, 7), &fixed, b"old\0new\0").unwrap();
    let Op::Rename { new_dir: Ino(8), flags: 1, name, new_name, .. } = request.op else {
        panic!("{request:?}")
    };
    assert_eq!((&*name, &*new_name), (&b"old"[..], &b"new"[..]));
}

#[test]
fn written_data_stays_where_it_arrived() {
    let fixed = [longs(&[5, 4096]), words(&[4, 4]), longs(&[0]), words(&[2, 0])].concat();
    let request = decoded(&header(opcode::WRITE, 7), &fixed, b"data").unwrap();
    let Op::Write {
        handle: 5, offset: 4096, data, flags: 2, kill_priv: true, cached: false, ..
    } = request.op
    else {
        panic!("{request:?}")
    };
    assert_eq!(&data.0[..], b"data");
    let collected = [longs(&[5, 4096]), words(&[4, 1]), longs(&[0]), words(&[2, 0])].concat();
    let request = decoded(&header(opcode::WRITE, 7), &collected, b"data").unwrap();
    assert!(matches!(request.op, Op::Write { kill_priv: false, cached: true, .. }), "{request:?}");
    assert!(decoded(&header(opcode::WRITE, 7), &fixed, b"dat").is_err());
}

#[test]
fn attributes_to_set() {
    let valid = (1 << 0) | (1 << 3) | (1 << 4) | (1 << 5) | (1 << 8) | (1 << 11);
    let fixed = [
        words(&[valid, 0]),
        longs(&[1, 4242, 0, 11, 12, 13]),
        words(&[21, 22, 23, 0o100_644, 0, 5, 6, 0]),
    ]
    .concat();
    assert_eq!(fixed.len(), fixed_bytes(opcode::SETATTR));
    let request = decoded(&header(opcode::SETATTR, 7), &fixed, b"").unwrap();
    let Op::Setattr { set, .. } = request.op else { panic!("{request:?}") };
    let wanted = SetAttr {
        mode: Some(0o644),
        size: Some(4242),
        atime: Some(SetTime::At(Time { sec: 11, nsec: 21 })),
        mtime: Some(SetTime::Now),
        kill_priv: true,
        ..SetAttr::default()
    };
    assert_eq!(set, wanted);
    for (valid, cached) in [(0x420, true), (0x460, true), (0x20, false), (0x421, false)] {
        let mut flushed = fixed.clone();
        flushed[..4].copy_from_slice(&words(&[valid]));
        let request = decoded(&header(opcode::SETATTR, 7), &flushed, b"").unwrap();
        let Op::Setattr { set, .. } = request.op else { panic!("{request:?}") };
        assert_eq!(set.cached, cached, "{valid:x}");
    }
}

#[test]
fn many_are_forgotten_at_once() {
    let pairs = longs(&[5, 1, 6, 2]);
    let request = decoded(&header(opcode::BATCH_FORGET, 0), &words(&[2, 0]), &pairs).unwrap();
    let Op::Forget { items } = request.op else { panic!("{request:?}") };
    assert_eq!(items, [(Ino(5), 1), (Ino(6), 2)]);
    assert!(decoded(&header(opcode::BATCH_FORGET, 0), &words(&[3, 0]), &pairs).is_err());
}

#[test]
fn what_is_not_known_is_not_supported() {
    assert_eq!(decoded(&header(4000, 1), &[], b"").unwrap_err(), libc::ENOSYS);
}

proptest! {
    #[test]
    fn no_message_makes_it_panic(
        code in 0u32..60, fixed in prop::collection::vec(any::<u8>(), 0..128),
        tail in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let _ = decoded(&header(code, 1), &fixed, &tail);
    }

    #[test]
    fn whole_fixed_arguments_are_enough(code in 1u32..52) {
        // Two names, as the longest needs, and sizes of zero.
        let done = decoded(&header(code, 1), &vec![0; fixed_bytes(code)], b"a\0b\0");
        prop_assert!(done.is_ok() || code == opcode::WRITE || done.unwrap_err() == libc::ENOSYS);
    }
}
