//! Any file: facts or a stated error, and what is found is inside of the file and within its bounds.

use arbitrary::Arbitrary;
use tracer_daemon::inspect::CODE_BYTES_MAX;
use tracer_daemon::plan::ProbePlan;

use super::mutation::{Mutated, inspected};

#[derive(Arbitrary, Debug)]
enum Input {
    Bytes(Vec<u8>),
    /// An ELF header whose numbers follow, and bytes behind it.
    Header {
        words: [u64; 3],
        halves: [u16; 6],
        machine: u16,
        kind: u16,
        rest: Vec<u8>,
    },
    Image(Mutated),
}

pub(super) fn run(bytes: &[u8]) {
    let Some(input) = super::input::<Input>(bytes) else { return };
    let file = match input {
        Input::Bytes(bytes) => bytes,
        Input::Header { words, halves, machine, kind, rest } => {
            let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            file.extend([kind, if machine == 0 { 62 } else { machine }].into_iter().flat_map(u16::to_le_bytes));
            file.extend(1_u32.to_le_bytes());
            file.extend(words.into_iter().flat_map(u64::to_le_bytes));
            file.extend(0_u32.to_le_bytes());
            file.extend(halves.into_iter().flat_map(u16::to_le_bytes));
            file.extend(rest);
            file
        }
        Input::Image(image) => image.built().bytes,
    };
    let length_bytes = file.len() as u64;
    match inspected(file) {
        Err(error) => assert!(!error.to_string().is_empty() && !error.id().is_empty()),
        Ok(facts) => {
            for code in facts.functions.values().flatten() {
                assert!(code.bytes.len() as u64 <= CODE_BYTES_MAX);
                assert!(code.file_offset.0 + code.bytes.len() as u64 <= length_bytes);
                assert_eq!(facts.file_offset(code.start), Some(code.file_offset));
            }
            let plan = ProbePlan::exact(&facts);
            assert!(plan.points.iter().all(|point| point.file_offset().0 < length_bytes));
            assert!(plan.counts_allocations || !plan.refused.is_empty());
        }
    }
}
