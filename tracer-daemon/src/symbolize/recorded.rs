//! Stacks that the runtime has recorded itself, as in its heap profile.
//!
//! They hold an address for every frame, inlined ones included (`tracebackPCs` of runtime/traceback.go, `gentraceback` up to
//! go1.20): behind the address of an inlined call stand those of the instructions that the compiler left in the place of the
//! calls around it. Such addresses are one location with several lines, as in the profiles that Go writes.

use std::collections::HashMap;
use std::sync::Arc;

use super::expand::{Expansion, Place};
use super::{Frame, Origin, Position, Symbolizer};
use crate::addr::Avma;

/// Most lines of all locations of one call.
const LINES_MAX: usize = 1 << 20;
/// Most bytes of names among them, each use of a name counted.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// Whether the frames of the runtime at the leaves are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeFrames {
    /// They say what kind of allocation it is.
    Shown,
    /// Left out as runtime/pprof does in heap profiles (`writeHeapProto` in runtime/pprof/protomem.go), unless there are no others.
    Hidden,
}

/// Several stacks with their locations, each location once.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// In the order in which the stacks lead to them.
    pub locations: Vec<Location>,
    /// For each stack the numbers of its locations, leaf first. `runtime.goexit`, at which every goroutine begins, is left out.
    pub stacks: Vec<Vec<usize>>,
}

impl Recorded {
    /// The frames of one stack, leaf first; none where there is no such stack.
    pub fn frames(&self, stack: usize) -> impl Iterator<Item = &Frame> {
        let locations = self.stacks.get(stack).map(Vec::as_slice).unwrap_or_default();
        let locations = locations.iter().filter_map(|number| self.locations.get(*number));
        locations.flat_map(|location| location.lines.iter().map(|line| &line.frame))
    }
}

/// One address of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Behind the call.
    pub return_address: Avma,
    /// What is called there, the innermost inlined call first; empty where nothing is known.
    pub lines: Vec<Line>,
}

/// One line of a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The frame.
    pub frame: Frame,
    /// The function's name with its type arguments, as the linker has it.
    pub symbol: Arc<str>,
}

/// A location, and the addresses that stand behind its own in a stack.
#[derive(Debug)]
struct Known {
    /// `None`: it is left out.
    number: Option<usize>,
    followers: Vec<Avma>,
}

impl Symbolizer {
    /// Names recorded stacks; what is beyond 2^20 lines has none.
    pub fn recorded(&mut self, stacks: &[&[Avma]], runtime: RuntimeFrames) -> Recorded {
        let mut recorded = Recorded::default();
        let mut naming = Naming::default();
        naming.expand_in_order(self, stacks);
        for stack in stacks {
            let mut locations = Vec::new();
            if runtime == RuntimeFrames::Hidden {
                let shown = stack.iter().position(|pc| !self.is_runtime_behind(*pc)).unwrap_or(0);
                locations = naming.locations(self, stack.get(shown..).unwrap_or_default(), &mut recorded.locations);
            }
            if locations.is_empty() {
                locations = naming.locations(self, stack, &mut recorded.locations);
            }
            recorded.stacks.push(locations);
        }
        recorded
    }

    /// Whether the instruction at a return address, behind the call, is the runtime's: what runtime/pprof asks of
    /// `runtime.FuncForPC`.
    fn is_runtime_behind(&mut self, pc: Avma) -> bool {
        let also_internal = self.facts.go_version.minor >= 24;
        let expansion = self.expansion((pc, Position::Exact));
        let place = expansion.as_ref().and_then(|expansion| expansion.places.first());
        place.is_some_and(|place| {
            let name = &place.frame.function;
            place.frame.origin == Origin::Go
                && (name.starts_with("runtime.") || (also_internal && name.starts_with("internal/runtime/")))
        })
    }

    /// The name in the function table; the printed one where there is none.
    fn symbol(&self, place: &Place) -> Arc<str> {
        let printed = &place.frame.function;
        let name = place.name.and_then(|name| self.facts.functions_table.function_name(name).ok());
        name.filter(|name| **name != **printed).map_or_else(|| Arc::clone(printed), Arc::from)
    }
}

#[derive(Debug, Default)]
struct Naming {
    known: HashMap<Avma, Known>,
    expansions: HashMap<Avma, Arc<Expansion>>,
    lines: usize,
    text_bytes: usize,
}

impl Naming {
    /// Expands each address once, in the order of the binary: what lies together is read once.
    fn expand_in_order(&mut self, symbolizer: &mut Symbolizer, stacks: &[&[Avma]]) {
        let mut sought: Vec<Avma> = stacks.iter().flat_map(|stack| stack.iter().copied()).collect();
        sought.sort_unstable();
        sought.dedup();
        let (mut lines, mut text_bytes) = (0, 0);
        for pc in sought {
            if lines > LINES_MAX || text_bytes > TEXT_BYTES_MAX {
                break;
            }
            if let Some(expansion) = symbolizer.expansion((pc, Position::Return)) {
                lines += expansion.places.len();
                text_bytes += expansion.text_bytes();
                self.expansions.insert(pc, expansion);
            }
        }
    }

    /// The numbers of the locations of a stack, the new ones added.
    fn locations(&mut self, symbolizer: &mut Symbolizer, stack: &[Avma], all: &mut Vec<Location>) -> Vec<usize> {
        let mut locations = Vec::new();
        let mut rest = stack.iter().peekable();
        while let Some(pc) = rest.next() {
            if !self.known.contains_key(pc) {
                let known = self.add(symbolizer, *pc, all);
                self.known.insert(*pc, known);
            }
            let Some(known) = self.known.get(pc) else { continue };
            for follower in &known.followers {
                rest.next_if_eq(&follower);
            }
            locations.extend(known.number);
        }
        locations
    }

    fn add(&mut self, symbolizer: &mut Symbolizer, pc: Avma, all: &mut Vec<Location>) -> Known {
        let number = all.len();
        let known = self.expansions.get(&pc).filter(|expansion| !expansion.nameless);
        let room = self.lines < LINES_MAX && self.text_bytes < TEXT_BYTES_MAX;
        let Some(expansion) = known.filter(|_| room) else {
            all.push(Location { return_address: pc, lines: Vec::new() });
            symbolizer.counts.cut += u64::from(!room);
            return Known { number: Some(number), followers: Vec::new() };
        };
        let ids = symbolizer.facts.functions_table.ids();
        let (mut lines, mut followers): (Vec<Line>, Vec<Avma>) = (Vec::new(), Vec::new());
        let mut callee = None;
        for place in &expansion.places {
            // As the runtime does when it records: a wrapper counts only where it did not get to call what it wraps.
            let calls_panic = callee.is_none_or(|id| [ids.gopanic, ids.sigpanic, ids.panicwrap].contains(&id));
            if place.id != ids.wrapper || calls_panic {
                if callee.is_some() {
                    followers.push(Avma(place.at.in_process(symbolizer.bias).0.wrapping_add(1)));
                }
                let symbol = symbolizer.symbol(place);
                self.text_bytes += symbol.len() + place.frame.file.len();
                lines.push(Line { frame: place.frame.clone(), symbol });
            }
            callee = Some(place.id);
        }
        self.lines += lines.len();
        if lines.first().is_some_and(|line| &*line.frame.function == "runtime.goexit") {
            return Known { number: None, followers };
        }
        all.push(Location { return_address: pc, lines });
        Known { number: Some(number), followers }
    }
}
