//! pc-value tables: which of a function's instructions share a file, a line, an inlined call.
//!
//! Owns their decoding (`pcvalue`, `step` and `readvarint` of runtime/symtab.go, the same in go1.19 to go1.27), and the
//! bound on the work that one address can cause.

use std::ops::ControlFlow;

use super::InspectError;
use super::module_data::TableHeader;
use super::source::CachedSource;

const STRUCTURE: &str = "go pc-value table";
/// Most steps of one table; a step is at least two bytes. The largest known functions have some ten thousand.
const STEPS_OF_ONE_TABLE: u32 = 1 << 18;
/// Most steps for one address: each inlined call on the way out needs another walk over three tables. About 10 ms.
const STEPS_OF_ONE_ADDRESS: u32 = 1 << 21;
/// Bytes read at a time: the whole table of most functions.
const CHUNK_BYTES: usize = 256;

/// How many more steps may be decoded.
#[derive(Debug)]
pub struct StepBudget {
    left: u32,
    whole: u32,
}

impl StepBudget {
    /// For one address, all inlined calls and tables together.
    pub fn of_one_address() -> Self {
        Self { left: STEPS_OF_ONE_ADDRESS, whole: STEPS_OF_ONE_ADDRESS }
    }

    /// For one walk over one table.
    pub(crate) fn of_one_table() -> Self {
        Self { left: STEPS_OF_ONE_TABLE, whole: STEPS_OF_ONE_TABLE }
    }

    /// How many steps were taken.
    pub fn used(&self) -> u32 {
        self.whole - self.left
    }

    fn take(&mut self) -> Result<(), InspectError> {
        let exhausted = || InspectError::malformed(STRUCTURE, "number of steps", u64::from(self.whole));
        self.left = self.left.checked_sub(1).ok_or_else(exhausted)?;
        Ok(())
    }
}

/// Calls `visit` with each value of a table and the offset in the function where it ends. No values at all where `table`
/// is 0.
pub(super) fn each_value(
    source: &CachedSource,
    header: &TableHeader,
    table: u32,
    budget: &mut StepBudget,
    mut visit: impl FnMut(u64, i32) -> ControlFlow<()>,
) -> Result<(), InspectError> {
    if table == 0 {
        return Ok(());
    }
    let position = header.pc_tables.saturating_add(u64::from(table));
    let mut bytes = TableBytes { source, header, position, chunk: [0; CHUNK_BYTES], next: 0, filled: 0 };
    let (mut offset, mut value, mut first) = (0_u64, -1_i32, true);
    loop {
        budget.take()?;
        let delta = bytes.varint()?;
        if delta == 0 && !first {
            return Ok(());
        }
        first = false;
        // Zigzag: the lowest bit is the sign.
        value = value.wrapping_add(((delta & 1).wrapping_neg() ^ (delta >> 1)).cast_signed());
        offset = offset.saturating_add(u64::from(bytes.varint()?).saturating_mul(header.quantum_bytes));
        if visit(offset, value).is_break() {
            return Ok(());
        }
    }
}

/// The bytes of one table, read in chunks.
struct TableBytes<'table> {
    source: &'table CachedSource,
    header: &'table TableHeader,
    /// Of the next chunk, from the beginning of the function table.
    position: u64,
    chunk: [u8; CHUNK_BYTES],
    next: usize,
    filled: usize,
}

impl TableBytes<'_> {
    /// `runtime.readvarint`: at most five bytes are meaningful.
    fn varint(&mut self) -> Result<u32, InspectError> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(InspectError::malformed(STRUCTURE, "varint", u64::from(value)))
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, InspectError> {
        if self.next == self.filled {
            self.fill()?;
        }
        let byte = self.chunk.get(self.next).copied().filter(|_| self.next < self.filled);
        self.next += 1;
        byte.ok_or_else(|| InspectError::malformed(STRUCTURE, "offset", self.position))
    }

    fn fill(&mut self) -> Result<(), InspectError> {
        if self.position >= self.header.size_bytes {
            return Err(InspectError::malformed(STRUCTURE, "offset", self.position));
        }
        let offset = self.header.start.saturating_add(self.position);
        self.filled = self.source.read_up_to(STRUCTURE, offset, &mut self.chunk)?;
        self.position = self.position.saturating_add(self.filled as u64);
        self.next = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::module_data::TableFormat;
    use super::*;
    use crate::addr::Svma;

    fn header(size_bytes: u64) -> TableHeader {
        TableHeader {
            format: TableFormat::Go120,
            start: 0,
            svma: Svma(0),
            size_bytes,
            quantum_bytes: 1,
            functions: 1,
            names: 0,
            units: 0,
            files: 0,
            pc_tables: 0,
            records: 0,
        }
    }

    #[test]
    fn values_end_where_the_table_says_so() {
        // From -1: +3 for 2 bytes, -1 for 300 bytes (two bytes of varint), end.
        let bytes = vec![0xff, 6, 2, 1, 0xac, 2, 0];
        let source = CachedSource::new(Box::new(bytes.clone()), u64::MAX);
        let mut seen = Vec::new();
        let mut budget = StepBudget::of_one_table();
        each_value(&source, &header(bytes.len() as u64), 1, &mut budget, |end, value| {
            seen.push((end, value));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!((seen, budget.used()), (vec![(2, 2), (302, 1)], 3));
    }

    #[test]
    fn walks_share_the_steps_of_one_address() {
        // A table without end: +1 for no byte at all, so that no instruction is ever reached.
        let bytes = [2, 0].repeat(1 << 19);
        let size_bytes = bytes.len() as u64;
        let source = CachedSource::new(Box::new(bytes), u64::MAX);
        let mut budget = StepBudget::of_one_address();
        let walk = |budget: &mut StepBudget, most: u32| {
            let mut steps = 0;
            each_value(&source, &header(size_bytes), 2, budget, |_, _| {
                steps += 1;
                if steps == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        };
        for _ in 0..STEPS_OF_ONE_ADDRESS / 1000 {
            walk(&mut budget, 1000).unwrap();
        }
        let error = walk(&mut budget, 1000).unwrap_err();
        assert!(matches!(error, InspectError::Malformed { field: "number of steps", .. }), "{error:?}");
        assert_eq!(budget.used(), STEPS_OF_ONE_ADDRESS);
        assert!(walk(&mut StepBudget::of_one_table(), u32::MAX).is_err());
    }
}
