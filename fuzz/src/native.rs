//! Any symbol table: only an address that a symbol covers has a name, and that is bounded.

use arbitrary::Arbitrary;
use tracer_daemon::addr::{FileOffset, Svma};
use tracer_daemon::inspect::NativeImage;
use tracer_daemon::inspect::source::STRING_BYTES_MAX;

use super::image::address;
use super::mutation::{Counted, Mutated};

/// A byte that is no UTF-8 becomes a character of three.
const TEXT_BYTES_MAX: usize = 3 * (STRING_BYTES_MAX + 64);

#[derive(Arbitrary, Debug)]
struct Input {
    image: Mutated,
    symbols: Vec<Symbol>,
    near: Vec<u16>,
    far: Vec<u64>,
}

#[derive(Arbitrary, Debug)]
struct Symbol {
    name: u8,
    info: u8,
    section: u8,
    value: u16,
    size: u32,
}

pub(super) fn run(bytes: &[u8]) {
    let Some(input) = super::input::<Input>(bytes) else { return };
    let mut image = input.image.plan();
    image.symbols = input.symbols.iter().take(64).map(|symbol| (format!("f{}", symbol.name), 0)).collect();
    let mut built = image.build();
    let table = built.part("symbols").start;
    for (index, symbol) in input.symbols.iter().take(64).enumerate() {
        let at = table + 24 * index;
        if image.sections {
            built.patch(at + 4, &[symbol.info, 0, symbol.section, 0]);
            let words = [address(usize::from(symbol.value)), u64::from(symbol.size)];
            built.patch(at + 8, &words.map(u64::to_le_bytes).concat());
        }
    }
    input.image.apply(&mut built);
    let source = Counted::new(built.bytes, 0);
    let Ok(native) = NativeImage::read(Box::new(source)) else { return };
    let near = input.near.iter().take(32).map(|at| address(usize::from(*at)));
    for at in near.chain(input.far.iter().take(8).copied()) {
        if let Ok(Some(name)) = native.name_at(Svma(at)) {
            assert!(!native.is_empty() && name.len() <= TEXT_BYTES_MAX);
        }
        let _can_be_read = native.follows_call(Svma(at)).is_some();
        let _is_loaded = native.address(FileOffset(at)).is_some();
    }
}
