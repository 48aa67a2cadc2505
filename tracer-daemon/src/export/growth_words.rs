//! What growth of goroutines and of native memory says in words, the same in text and JSON.
//!
//! A sentence says what is seen, then what makes the verdict.

use super::human::{approximate, bytes, count, grouped, seconds};
use super::untrusted;
use crate::model::goroutines::growth::{SiteGrowth, Why};
use crate::model::memory::growth::{NativeGrowth, NativeWhy};
use crate::model::slope;
use crate::model::verdict::Trend;
use crate::symbolize::Frame;

/// Why a place that starts goroutines has its verdict.
pub fn goroutines(site: &SiteGrowth) -> String {
    let older = |older_than_s: f64| format!("older than {}", seconds(older_than_s));
    let reason = match site.why {
        Why::TooEarly { needs_s } => return format!("{} so far; {}", started(site), needs(&site.trend, needs_s)),
        Why::NoGrowth => String::from("they do not become more beyond chance"),
        Why::Falls => String::from("they become fewer"),
        Why::SlowsDown => format!("{}, and ever fewer: something fills", more(site)),
        Why::BelowFloor => format!("{}, too few to matter", more(site)),
        Why::ComeAndGo { older_than_s } => {
            format!("{}, but they come and go: hardly more of them are {}", more(site), older(older_than_s))
        }
        Why::FellBefore { goroutines, ago_s } => format!(
            "{}; {} ended {} ago, and these may end the same way",
            more(site),
            grouped(goroutines),
            seconds(ago_s)
        ),
        Why::Leave => format!("{}; but many of those that were there for long leave", more(site)),
        Why::Unconfirmed { needs_s } if needs_s > 0.0 => {
            format!("{}; whether they stay is to be seen for another {}", more(site), seconds(needs_s))
        }
        Why::Unconfirmed { .. } => format!("{}; one more report is to agree", more(site)),
        Why::Stay => match site.old {
            Some(old) => {
                let all = format!("of {} {}", grouped(old.count), older(old.older_than_s));
                match old.left {
                    Some(0) => format!("{}; {all} none left meanwhile", more(site)),
                    Some(left) => format!("{}; {all} only {} left meanwhile", more(site), grouped(left)),
                    None => {
                        format!("{}; {} are {}", more(site), grouped(old.count), older(old.older_than_s))
                    }
                }
            }
            None => more(site),
        },
    };
    format!("{}; {reason}", started(site))
}

/// `1,240 goroutines created at main.handle (/src/main.go:17) wait in chan send at main.work (/src/main.go:30)`.
fn started(site: &SiteGrowth) -> String {
    let created = format!("{} goroutines created at {}", grouped(site.live), place(&site.place));
    let Some(waits) = &site.waits else { return created };
    let at = waits.blocked.as_ref().map_or_else(String::new, |frame| format!(" at {}", place(frame)));
    let who = if waits.count >= site.live { String::new() } else { format!(", of which {}", grouped(waits.count)) };
    format!("{created}{who} are in {}{at}", untrusted::name(&waits.reason))
}

/// `12.0 more each second for 60.0 s`.
fn more(site: &SiteGrowth) -> String {
    let rate = site.trend.rate().map_or(0.0, |rate| rate.value);
    let every = if rate >= 0.1 || rate <= 0.0 {
        format!("{} more each second", count(rate))
    } else {
        format!("{} more each minute", count(60.0 * rate))
    };
    format!("{every} for {}", seconds(site.window_s))
}

fn place(frame: &Frame) -> String {
    if frame.file.is_empty() {
        return untrusted::name(&frame.function).into_owned();
    }
    format!("{} ({}:{})", untrusted::name(&frame.function), untrusted::path(&frame.file), frame.line)
}

fn needs(trend: &Trend, needs_s: f64) -> String {
    match trend {
        Trend::Unknown { values, .. } if *values > 0 => {
            format!("needs {values} of {} looks more, about {}", slope::POINTS_MIN, seconds(needs_s))
        }
        _ => format!("needs {} more", seconds(needs_s)),
    }
}

/// Why native memory has its verdict, and who is likely to own it.
pub fn native(native: &NativeGrowth) -> String {
    let rate = native.trend.rate().map_or(0.0, |rate| rate.value);
    let grows = format!("memory outside of Go's heap grows by {} each second", bytes(rate));
    let owner = if native.cgo {
        "the binary links C code, so it is most likely malloc in C (C.malloc and C.CString are invisible to the collector, and freed by C.free only)"
    } else {
        "the binary links no C code, so the program maps it itself (syscall.Mmap); the collector does not know it"
    };
    let largest =
        native.largest.as_deref().map_or_else(String::new, |name| format!(", most of it {}", untrusted::name(name)));
    match native.why {
        NativeWhy::NotMeasured => String::from("memory outside of Go's heap is not known apart from the heap"),
        NativeWhy::TooEarly { needs_s } => needs(&native.trend, needs_s),
        NativeWhy::NoGrowth => String::from("memory outside of Go's heap does not grow beyond chance"),
        NativeWhy::Falls => String::from("memory outside of Go's heap becomes less"),
        NativeWhy::SlowsDown => format!("{grows}, and ever more slowly: something fills"),
        NativeWhy::BelowFloor => format!("{grows}, too little to matter"),
        NativeWhy::OneStep { bytes: step } => {
            format!("memory outside of Go's heap grew by one step of {}, not steadily", bytes(approximate(step)))
        }
        NativeWhy::SwappedIn { bytes: swapped } => {
            format!("{grows}, but {} came back from swap meanwhile", bytes(approximate(swapped)))
        }
        NativeWhy::HugePages { bytes: huge } => format!(
            "{grows}; {} of it are huge pages, which the kernel may have put together without any allocation{largest}",
            bytes(approximate(huge))
        ),
        NativeWhy::FellBefore { bytes: fall } => {
            format!("{grows}; it fell by {} before, and may do so again{largest}", bytes(approximate(fall)))
        }
        NativeWhy::Unconfirmed { needs_s } if needs_s > 0.0 => {
            format!("{grows}{largest}: {owner}; whether that goes on is to be seen for another {}", seconds(needs_s))
        }
        NativeWhy::Unconfirmed { .. } => format!("{grows}{largest}: {owner}; one more report is to agree"),
        NativeWhy::Grows => format!("{grows}{largest}: {owner}"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::model::goroutines::growth::{Old, Waits};
    use crate::model::verdict::Verdict;
    use crate::model::{Rate, SiteId};
    use crate::symbolize::Origin;

    fn frame(function: &str, line: u32) -> Frame {
        Frame {
            function: function.into(),
            file: "/src/main.go".into(),
            line,
            function_start_line: 1,
            inlined: false,
            origin: Origin::Go,
        }
    }

    fn check(why: Why, rate: f64, left: Option<u64>, expected: &Expect) {
        let trend = match why {
            Why::TooEarly { .. } => Trend::Unknown { values: 2, seconds: 3.0 },
            _ => Trend::Rising(Rate::counted(rate)),
        };
        let site = SiteGrowth {
            id: SiteId(1),
            place: frame("main.handle", 17),
            live: 1240,
            trend,
            window_s: 60.0,
            verdict: Verdict::Leaking,
            why,
            old: Some(Old { older_than_s: 15.0, count: 1060, left }),
            waits: Some(Waits {
                reason: "chan send".into(),
                blocked: Some(frame("main.work\u{1b}", 30)),
                count: if rate > 1.0 { 1240 } else { 1000 },
            }),
        };
        expected.assert_eq(&goroutines(&site).replace('\u{a0}', " "));
    }

    #[test]
    fn a_leak_of_goroutines_is_told_with_what_is_exact_of_it() {
        check(
            Why::Stay,
            12.0,
            Some(0),
            &expect![[
                r"1,240 goroutines created at main.handle (/src/main.go:17) are in chan send at main.work\u{1b} (/src/main.go:30); 12 more each second for 60.0 s; of 1,060 older than 15.0 s none left meanwhile"
            ]],
        );
        check(
            Why::Stay,
            0.05,
            Some(7),
            &expect![[
                r"1,240 goroutines created at main.handle (/src/main.go:17), of which 1,000 are in chan send at main.work\u{1b} (/src/main.go:30); 3 more each minute for 60.0 s; of 1,060 older than 15.0 s only 7 left meanwhile"
            ]],
        );
        check(
            Why::Stay,
            12.0,
            None,
            &expect![[
                r"1,240 goroutines created at main.handle (/src/main.go:17) are in chan send at main.work\u{1b} (/src/main.go:30); 12 more each second for 60.0 s; 1,060 are older than 15.0 s"
            ]],
        );
        check(
            Why::TooEarly { needs_s: 15.0 },
            0.0,
            None,
            &expect![[
                r"1,240 goroutines created at main.handle (/src/main.go:17), of which 1,000 are in chan send at main.work\u{1b} (/src/main.go:30) so far; needs 2 of 4 looks more, about 15.0 s"
            ]],
        );
        check(
            Why::Unconfirmed { needs_s: 30.0 },
            12.0,
            None,
            &expect![[
                r"1,240 goroutines created at main.handle (/src/main.go:17) are in chan send at main.work\u{1b} (/src/main.go:30); 12 more each second for 60.0 s; whether they stay is to be seen for another 30.0 s"
            ]],
        );
        check(
            Why::FellBefore { goroutines: 900, ago_s: 40.0 },
            12.0,
            None,
            &expect![[
                r"1,240 goroutines created at main.handle (/src/main.go:17) are in chan send at main.work\u{1b} (/src/main.go:30); 12 more each second for 60.0 s; 900 ended 40.0 s ago, and these may end the same way"
            ]],
        );
        check(
            Why::ComeAndGo { older_than_s: 15.0 },
            12.0,
            None,
            &expect![[
                r"1,240 goroutines created at main.handle (/src/main.go:17) are in chan send at main.work\u{1b} (/src/main.go:30); 12 more each second for 60.0 s, but they come and go: hardly more of them are older than 15.0 s"
            ]],
        );
    }

    #[test]
    fn growth_outside_of_the_heap_names_its_likely_owner() {
        let check = |why, cgo, expected: &Expect| {
            let said = native(&NativeGrowth {
                bytes: Some(1 << 30),
                trend: Trend::Rising(Rate::counted(200_000.0)),
                verdict: Verdict::Leaking,
                why,
                leak_due_s: 0.0,
                largest: Some("[heap] (malloc of C)".into()),
                cgo,
            });
            expected.assert_eq(&said.replace('\u{a0}', " "));
        };
        check(
            NativeWhy::Grows,
            true,
            &expect![
                "memory outside of Go's heap grows by 195 KiB each second, most of it [heap] (malloc of C): the binary links C code, so it is most likely malloc in C (C.malloc and C.CString are invisible to the collector, and freed by C.free only)"
            ],
        );
        check(
            NativeWhy::Grows,
            false,
            &expect![
                "memory outside of Go's heap grows by 195 KiB each second, most of it [heap] (malloc of C): the binary links no C code, so the program maps it itself (syscall.Mmap); the collector does not know it"
            ],
        );
        check(
            NativeWhy::HugePages { bytes: 6 << 20 },
            true,
            &expect![
                "memory outside of Go's heap grows by 195 KiB each second; 6.00 MiB of it are huge pages, which the kernel may have put together without any allocation, most of it [heap] (malloc of C)"
            ],
        );
        check(
            NativeWhy::OneStep { bytes: 64 << 20 },
            true,
            &expect!["memory outside of Go's heap grew by one step of 64.0 MiB, not steadily"],
        );
    }
}
