//! Frames survive any cutting of the stream; nonsense is refused.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::{Assembler, Exit, Frame, Run, Setup};

fn samples() -> Vec<Frame> {
    vec![
        Frame::Hello,
        Frame::Setup(Setup { keep: vec!["/tmp/x y".into()], modules: "/m".into(), modprobe: "/b".into() }),
        Frame::Ready,
        Frame::Run(Run {
            argv: vec!["/bin/echo".into(), "ü\n".into()],
            env: vec![("K".into(), "V=W".into())],
            cwd: "/".into(),
            terminal: false,
        }),
        Frame::Kill,
        Frame::Stdout(vec![0, 255, b'\n']),
        Frame::Stderr(Vec::new()),
        Frame::Kmsg("one\ntwo".into()),
        Frame::Exit(Exit::Signal(9)),
        Frame::Exit(Exit::NotStarted("no such file".into())),
    ]
}

#[test]
fn frames_survive_arrival_byte_by_byte() {
    let stream: Vec<u8> = samples().iter().flat_map(|frame| frame.encode().unwrap()).collect();
    let mut assembler = Assembler::default();
    let mut arrived = Vec::new();
    for byte in stream {
        assert_eq!(assembler.fill([byte].as_slice()).unwrap(), 1);
        arrived.extend(assembler.next().unwrap());
    }
    assert_eq!(arrived, samples());
}

#[test]
fn several_frames_in_one_piece_come_out_in_order() {
    let stream: Vec<u8> = samples().iter().flat_map(|frame| frame.encode().unwrap()).collect();
    let mut assembler = Assembler::default();
    assembler.fill(stream.as_slice()).unwrap();
    let arrived: Vec<Frame> = std::iter::from_fn(|| assembler.next().unwrap()).collect();
    assert_eq!(arrived, samples());
}

#[test]
fn nonsense_is_refused() {
    for stream in [b"?\0\0\0\0".as_slice(), b"o\xff\xff\xff\xff", b"x\x01\0\0\0{"] {
        let mut assembler = Assembler::default();
        assembler.fill(stream).unwrap();
        assembler.next().unwrap_err();
    }
}

#[test]
fn codes_are_those_of_a_shell() {
    assert_eq!(Exit::Code(3).shell_code(), 3);
    assert_eq!(Exit::Signal(9).shell_code(), 137);
    assert_eq!(Exit::NotStarted(String::new()).shell_code(), 127);
}
