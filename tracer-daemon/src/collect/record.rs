//! Ring bytes to stacks. Pure.

use tracer_common::exact::{MAX_FRAMES, StackKey, StackKind};

use crate::addr::Avma;

/// A stack that the kernel programs saw for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewStack {
    /// Under which key its hits are counted.
    pub key: StackKey,
    /// What it stands for.
    pub kind: StackKind,
    /// Leaf first; the first is the probed instruction, the others are return addresses.
    pub frames: Vec<Avma>,
}

/// Bytes of a record before its frames.
const HEADER_BYTES: usize = core::mem::offset_of!(tracer_common::exact::StackRecord, frames);

/// Decodes one ring record. None: not a record of this contract (other length, kind or count), which is counted.
pub fn decode(bytes: &[u8]) -> Option<NewStack> {
    if bytes.len() < size_of::<tracer_common::exact::StackRecord>() {
        return None;
    }
    let (header, frames) = bytes.split_at(HEADER_BYTES);
    let key = StackKey { first: word(header, 0)?, second: word(header, 8)? };
    let kind_and_count = word(header, 16)?;
    let kind = match kind_and_count & u64::from(u32::MAX) {
        0 => StackKind::Allocation,
        1 => StackKind::GoroutineCreation,
        _ => return None,
    };
    let count = usize::try_from(kind_and_count >> 32).ok().filter(|&count| (1..=MAX_FRAMES).contains(&count))?;
    let frames = (0..count).map(|index| word(frames, index * 8).map(Avma)).collect::<Option<Vec<_>>>()?;
    Some(NewStack { key, kind, frames })
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(stack: &NewStack) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(stack.key.first.to_le_bytes());
        bytes.extend(stack.key.second.to_le_bytes());
        bytes.extend((stack.kind as u32).to_le_bytes());
        bytes.extend(u32::try_from(stack.frames.len()).unwrap().to_le_bytes());
        for frame in &stack.frames {
            bytes.extend(frame.0.to_le_bytes());
        }
        bytes.resize(size_of::<tracer_common::exact::StackRecord>(), 0xaa);
        bytes
    }

    proptest! {
        #[test]
        fn decode_is_the_inverse_of_encode(
            first: u64, second: u64, creation: bool, frames in prop::collection::vec(any::<u64>(), 1..=MAX_FRAMES)
        ) {
            let kind = if creation { StackKind::GoroutineCreation } else { StackKind::Allocation };
            let stack = NewStack { key: StackKey { first, second }, kind, frames: frames.into_iter().map(Avma).collect() };
            prop_assert_eq!(decode(&encode(&stack)), Some(stack));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let _decoded = decode(&bytes);
        }
    }

    #[test]
    fn an_unknown_kind_and_an_impossible_count_are_not_records() {
        let stack = NewStack { key: StackKey::EMPTY, kind: StackKind::Allocation, frames: vec![Avma(1)] };
        let mut bytes = encode(&stack);
        bytes[16] = 7;
        assert_eq!(decode(&bytes), None);
        bytes[16] = 0;
        bytes[20] = 65;
        assert_eq!(decode(&bytes), None);
    }
}
