//! Any program counters in any program: a bounded number of frames for each stack, the same at the second asking.

use std::sync::Arc;

use arbitrary::Arbitrary;
use tracer_daemon::addr::{Avma, LoadBias};
use tracer_daemon::symbolize::{STACK_FRAMES_MAX, Symbolizer};

use super::image::address;
use super::mutation::{Mutated, inspected};

#[derive(Arbitrary, Debug)]
struct Input {
    image: Mutated,
    bias: u64,
    /// Offsets in the text.
    near: Vec<u16>,
    far: Vec<u64>,
}

pub(super) fn run(bytes: &[u8]) {
    let Some(input) = super::input::<Input>(bytes) else { return };
    let built = input.image.plan().build();
    let text = address(built.part("text").start);
    let Ok(facts) = inspected(input.image.built().bytes) else { return };
    let near = input.near.iter().take(32).map(|offset| text + u64::from(*offset % 520));
    let stated = near.chain(input.far.iter().take(8).copied());
    let pcs: Vec<Avma> = stated.map(|pc| Avma(pc.wrapping_add(input.bias))).collect();
    let mut symbolizer = Symbolizer::new(Arc::new(facts), LoadBias(input.bias));
    let frames = symbolizer.stack(&pcs);
    assert!(frames.len() <= STACK_FRAMES_MAX);
    assert!(pcs.is_empty() || !frames.is_empty());
    assert_eq!(frames, symbolizer.stack(&pcs), "the cache changes nothing");
}
