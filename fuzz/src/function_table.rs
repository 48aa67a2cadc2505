//! Any bytes in the function table and the inline trees: names, files, lines and inlined calls are bounded.

use arbitrary::Arbitrary;
use tracer_daemon::addr::Svma;
use tracer_daemon::inspect::{StepBudget, source::STRING_BYTES_MAX};

use super::mutation::{Mutated, inspected};

/// A byte that is no UTF-8 becomes a character of three.
const TEXT_BYTES_MAX: usize = 3 * (STRING_BYTES_MAX + 64);

#[derive(Arbitrary, Debug)]
struct Input {
    image: Mutated,
    indices: [u16; 4],
    offsets: [u32; 4],
}

pub(super) fn run(bytes: &[u8]) {
    let Some(input) = super::input::<Input>(bytes) else { return };
    let Ok(facts) = inspected(input.image.built().bytes) else { return };
    let table = facts.functions_table;
    let length = table.len();
    assert!(length > 0 && matches!(table.function(length), Ok(None)));
    assert!(table.text().is_ok());
    for (index, offset) in input.indices.into_iter().zip(input.offsets) {
        let Ok(Some(function)) = table.function(u64::from(index) % length) else { continue };
        assert!(function.start <= function.end);
        let at = Svma(function.start.0.saturating_add(u64::from(offset)));
        if let Ok(name) = table.name(&function) {
            assert!(name.len() <= TEXT_BYTES_MAX);
        }
        let mut budget = StepBudget::of_one_address();
        if let Ok(Some((file, _))) = table.file_and_line(&function, at, &mut budget)
            && let Ok(file) = table.file(file)
        {
            assert!(file.len() <= TEXT_BYTES_MAX);
        }
        if let Ok(Some(call)) = table.inlined_call_at(&function, at, &mut budget)
            && let Ok(name) = table.function_name(call.name())
        {
            assert!(name.len() <= TEXT_BYTES_MAX);
        }
        if let Ok(Some(found)) = table.function_at(at) {
            assert!(found.start <= found.end);
        }
    }
}
