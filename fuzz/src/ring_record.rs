//! Any bytes from the ring: a stack of at least one and at most `MAX_FRAMES` frames, or none.

use tracer_common::exact::{MAX_FRAMES, StackRecord};
use tracer_daemon::collect::decode;

pub(super) fn run(bytes: &[u8]) {
    let Some(stack) = decode(bytes) else { return };
    assert!(bytes.len() >= size_of::<StackRecord>());
    assert!((1..=MAX_FRAMES).contains(&stack.frames.len()));
    assert_eq!(stack.key.first.to_le_bytes(), bytes[..8]);
}
