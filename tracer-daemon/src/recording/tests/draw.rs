//! Entries of all kinds with numbers of all sizes, from a seed.

use std::sync::Arc;

use crate::addr::Avma;
use crate::export::Refusal;
use crate::inspect::GlobalMissing;
use crate::model::birth_look::{BirthCounts, BirthLook, CellKey, CellSum, Seen, Slice};
use crate::model::goroutines::hooks::HookLook;
use crate::model::goroutines::{
    AgeBounds, GoroutineTable, Holders, Object, ObjectKind, TablePath, TableSite, TableState,
};
use crate::model::impulses::{Caught, CaughtStack, CaughtSum, ImpulseKind, ImpulseLook, Noticed, Unserved};
use crate::model::observation::{Moment, Observation, ProfileLook};
use crate::model::{SiteId, Turnover, memory};
use crate::read::books::{Books, ClassCount, Pacer, PartMissing, Pause, Phase, Structures, SystemBytes};
use crate::read::goroutines::{Channel, Queue};
use crate::read::profile::{Bucket, Counts};
use crate::read::{Discard, Discards};
use crate::recording::{Beginning, Entry, Note, Reported};
use crate::symbolize::{Frame, Origin};

/// Values drawn from a seed (Steele, Lea and Flood, "Fast splittable pseudorandom number generators").
pub(super) struct Draw(pub(super) u64);

impl Draw {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Of any size, also the extremes.
    pub(super) fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => self.word(),
            _ => self.word() % 100_000,
        }
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.word() % bound
    }

    pub(super) fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    fn some<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    fn list<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn text(&mut self) -> String {
        ["", "main.(*store).put", "näm\u{0}e", "runtime.mallocgc"][usize::try_from(self.below(4)).unwrap()].to_owned()
    }

    pub(super) fn frame(&mut self) -> Frame {
        Frame {
            function: self.text().into(),
            file: self.text().into(),
            line: u32::try_from(self.below(4)).unwrap(),
            function_start_line: 3,
            inlined: self.flag(),
            origin: if self.flag() { Origin::Go } else { Origin::Native },
        }
    }

    pub(super) fn books(&mut self) -> Books {
        let mut pauses = self.list(20, |draw| Pause { duration_ns: draw.number(), end_unix_ns: draw.number() });
        pauses.reverse();
        Books {
            classes: self.list(67, |draw| ClassCount {
                size_bytes: draw.number(),
                allocs: draw.number(),
                slack: draw.number(),
                frees: draw.number(),
            }),
            tiny_allocs: self.number(),
            tiny_slack: self.number(),
            large_allocs: self.number(),
            large_alloc_bytes: self.number(),
            large_frees: self.number(),
            large_free_bytes: self.number(),
            heap_in_use_bytes: self.number(),
            heap_free_bytes: self.number(),
            heap_released_bytes: self.number(),
            stacks_bytes: self.number(),
            work_buffers_bytes: self.number(),
            pointer_bits_bytes: self.number(),
            system: SystemBytes { stacks: self.number(), other: self.number(), ..SystemBytes::default() },
            collections: 7,
            forced_collections: 1,
            last_end_unix_ns: self.number(),
            last_end_ns: self.number(),
            gc_cpu_fraction: [0.25, -0.0, f64::INFINITY, 1e-300][usize::try_from(self.below(4)).unwrap()],
            pause_total_ns: self.number(),
            pauses,
            processors: 2,
            pacer: if self.flag() {
                Ok(Pacer {
                    gc_percent: self.some(|_| 100),
                    memory_limit_bytes: self.some(Self::number),
                    percent_goal_bytes: self.some(Self::number),
                    limit_goal_bytes: None,
                    goal_bytes: self.number(),
                    heap_live_bytes: self.number(),
                    heap_marked_bytes: self.number(),
                    mark_start_ns: self.number(),
                    mapped_ready_bytes: self.number(),
                })
            } else {
                Err(PartMissing::Implausible { what: "GOGC".into(), value: self.number() })
            },
            phase: Ok(if self.flag() { Phase::Off } else { Phase::Mark }),
            structures: Ok(Structures {
                spans_in_use_bytes: self.number(),
                caches_in_use_bytes: self.number(),
                sweep_generation: 4,
            }),
            threads: Ok(self.number()),
            goroutines: Err(PartMissing::Global(GlobalMissing::Unconfirmed {
                name: "runtime.allgs".into(),
                function: self.text().into(),
            })),
        }
    }

    fn profile(&mut self) -> ProfileLook {
        let counts = |draw: &mut Self| Counts { allocs: draw.number(), frees: draw.number(), ..Counts::default() };
        let mut changed = self.list(20, |draw| {
            let bucket = Bucket { published: counts(draw), newest: counts(draw) };
            (u32::try_from(draw.below(40)).unwrap(), bucket)
        });
        changed.sort_by_key(|(number, _)| *number);
        changed.dedup_by_key(|(number, _)| *number);
        ProfileLook {
            rate_bytes: [524_288, 1, i64::MIN][usize::try_from(self.below(3)).unwrap()],
            lag_cycles: 2,
            is_baseline: self.flag(),
            new_stacks: self.list(5, |draw| draw.list(5, Self::frame).into()),
            changed,
        }
    }

    fn hooks(&mut self) -> HookLook {
        let turnover = |draw: &mut Self| Turnover { created: draw.number(), exited: draw.number() };
        let mut changed = self.list(20, |draw| (u32::try_from(draw.below(40)).unwrap(), turnover(draw)));
        changed.sort_by_key(|(number, _)| *number);
        changed.dedup_by_key(|(number, _)| *number);
        HookLook {
            new_stacks: self.list(3, |draw| draw.list(4, Self::frame).into()),
            changed,
            totals: turnover(self),
            counted_ns: self.number(),
        }
    }

    fn births(&mut self) -> BirthLook {
        let key = |draw: &mut Self| CellKey {
            slice: 3,
            cluster: 7,
            group: 1,
            size_bytes: draw.number(),
            seen: if draw.flag() {
                Seen::Refills
            } else {
                Seen::Lives { path: u32::MAX, age_cycles: 9, died: draw.flag() }
            },
        };
        let mut changed = self.list(20, |draw| {
            let weight = [0.1, 1e300, f64::NEG_INFINITY][usize::try_from(draw.below(3)).unwrap()];
            (u32::try_from(draw.below(40)).unwrap(), CellSum { number: draw.number(), weight, squares: 2.5 })
        });
        changed.sort_by_key(|(number, _)| *number);
        changed.dedup_by_key(|(number, _)| *number);
        BirthLook {
            new_stacks: self.list(5, |draw| draw.list(5, Self::frame).into()),
            gone_stacks: self.list(5, |draw| u32::try_from(draw.below(40)).unwrap()),
            new_cells: self.list(5, key),
            changed,
            slices: self.list(3, |draw| Slice {
                began_ns: draw.number(),
                births_stand_for_s: 60.5,
                ..Slice::default()
            }),
            refill_trap: 0.5,
            counts: BirthCounts { born: self.number(), ..BirthCounts::default() },
        }
    }

    fn impulses(&mut self) -> ImpulseLook {
        let sum = |draw: &mut Self| {
            let bytes = [0.1, 1e300, f64::NEG_INFINITY][usize::try_from(draw.below(3)).unwrap()];
            CaughtSum { births: draw.number(), objects: 3.5, bytes, squares: 7.25 }
        };
        ImpulseLook {
            noticed: self.list(2, |draw| Noticed {
                number: u32::try_from(draw.below(4)).unwrap(),
                kind: ImpulseKind::ALL[usize::try_from(draw.below(3)).unwrap()],
                usual: draw.some(|_| 1e6),
                seen: 3.5e6,
            }),
            caught: self.list(2, |draw| Caught {
                number: u32::try_from(draw.below(4)).unwrap(),
                began_ns: draw.number(),
                open_ns: draw.number(),
                stacks: draw.list(3, |draw| CaughtStack { stack: draw.list(4, Self::frame).into(), sum: sum(draw) }),
                other: sum(draw),
            }),
            unserved: self
                .list(1, |draw| Unserved { number: u32::try_from(draw.below(4)).unwrap(), why: draw.text().into() }),
        }
    }

    fn age(&mut self) -> AgeBounds {
        AgeBounds { at_least_ns: self.number(), at_most_ns: self.some(Self::number) }
    }

    fn channel(&mut self) -> Channel {
        Channel {
            address: Avma(self.number()),
            len: self.number(),
            cap: self.number(),
            element_bytes: 8,
            closed: self.flag(),
            of_timer: self.some(Self::flag),
            senders: Queue { count: self.number(), or_more: self.flag() },
            receivers: Queue::default(),
        }
    }

    pub(super) fn goroutines(&mut self) -> GoroutineTable {
        let state = |draw: &mut Self| TableState {
            wait_reason: draw.text(),
            count: draw.number(),
            interval: draw.some(|draw| (draw.number(), draw.number())),
            looked_at: draw.number(),
            blocked: draw.some(Self::frame),
            entry_function: draw.text().into(),
            oldest: draw.age(),
            waits_on: draw.some(|draw| Object {
                kind: ObjectKind::NilChan,
                address: draw.some(|draw| Avma(draw.number())),
                waiters: draw.number(),
                channel: draw.some(Self::channel),
                cases: draw.list(3, Self::channel),
            }),
            objects: draw.number(),
            holders: draw.some(|draw| Holders { channels: draw.number(), ..Holders::default() }),
            paths: draw.list(3, |draw| TablePath {
                count: draw.number(),
                frames: draw.list(4, Self::frame),
                cut: draw.flag(),
            }),
        };
        GoroutineTable {
            live: self.number(),
            stack_bytes: self.number(),
            sampled: self.some(Self::number),
            sites: self.list(4, |draw| TableSite {
                id: SiteId(draw.number()),
                place: draw.frame(),
                creation_stack: draw.list(3, Self::frame),
                entry_function: draw.text().into(),
                live: draw.number(),
                stack_bytes: draw.number(),
                oldest: draw.age(),
                lowest_id: draw.number(),
                ids: {
                    let mut ids = draw.list(30, |draw| draw.below(60));
                    ids.sort_unstable();
                    ids.dedup();
                    ids.into()
                },
                states: draw.list(3, state),
            }),
            ..GoroutineTable::default()
        }
    }

    pub(super) fn entry(&mut self) -> Entry {
        Entry::Observation(match self.below(11) {
            0 => Observation::Opened,
            1 | 2 => Observation::Books(Box::new(self.books())),
            3 => Observation::Profile(self.profile()),
            4 => Observation::Goroutines(Arc::new(self.goroutines())),
            5 => {
                let mut statement = memory::tests::example();
                statement.rss_bytes = self.number();
                Observation::Memory(Arc::new(statement))
            }
            6 => {
                let mut discards = Discards::default();
                self.list(3, |draw| discards.add(Discard::ALL[usize::try_from(draw.below(9)).unwrap()]));
                Observation::Discards(discards)
            }
            7 => Observation::Births(Arc::new(self.births())),
            8 => Observation::GoroutineHooks(Arc::new(self.hooks())),
            9 => Observation::Impulses(Arc::new(self.impulses())),
            _ => return Entry::Note(self.note()),
        })
    }

    pub(super) fn note(&mut self) -> Note {
        match self.below(3) {
            0 => Note::Began(Box::new(Beginning { started_unix_ms: self.number(), ..Beginning::default() })),
            1 => Note::Refusals(self.list(2, |draw| Refusal::new(draw.text(), draw.text()))),
            _ => Note::Reported(Box::new(Reported { is_final: self.flag(), ..Reported::default() })),
        }
    }

    pub(super) fn entries(&mut self, most: u64) -> Vec<(Moment, Entry)> {
        self.list(most, |draw| (Moment { at_ns: draw.number(), unix_ns: draw.number() }, draw.entry()))
    }
}
