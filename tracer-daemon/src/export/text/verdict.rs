//! What grows: the part of the page that is read first. A line is called leaking only where the model says so.

use super::layout::{Page, file_and_line, function};
use crate::export::growth_words;
use crate::export::human;
use crate::export::untrusted;
use crate::model::assess::{Assessment, ClassAssessment};
use crate::model::hints::{self, Program};
use crate::model::judged::{Judged, judged};
use crate::model::verdict::{Trend, Verdict};
use crate::model::{LimitSource, Rate, Snapshot};

/// Lines that are told of one by one; JSON has all.
const MAX_LINES: usize = 5;
/// Where no shape is known.
const WHAT_TO_DO: &str = "find who keeps what this line allocates: a map or slice that nothing is taken from, a cache without a \
                          limit, a goroutine that does not end";
/// Slower growth of a size class is nobody's trouble.
const MIN_CLASS_BYTES_PER_S: f64 = 1024.0;
/// Size classes that grow without a name.
const MAX_CLASSES: usize = 4;

/// What is said of the process, as the end of a sentence that begins with its name: the worst of its heap, its goroutines and its
/// memory outside of the heap. `None`: nothing is known of growth.
pub(super) fn headline(snapshot: &Snapshot) -> Option<String> {
    let heap = snapshot.assessment.as_deref().map_or(Verdict::Unknown, |assessment| assessment.verdict);
    let goroutines = snapshot.goroutine_growth.as_deref();
    let goroutine_verdict = goroutines.map_or(Verdict::Unknown, |growth| growth.verdict);
    let native = snapshot.memory_growth.as_deref().map(|growth| &growth.native);
    let native_verdict = native.map_or(Verdict::Unknown, |native| native.verdict);
    let beside = goroutine_verdict.max(native_verdict);
    if beside < Verdict::Growing || beside < heap {
        return heap_headline(snapshot);
    }
    let verb = if beside == Verdict::Leaking { "leaks" } else { "probably leaks" };
    let what = if goroutine_verdict >= native_verdict {
        let rate = goroutines.and_then(|growth| growth.total.rate()).map_or(0.0, |rate| rate.value);
        format!("{verb} goroutines: {} more each second", human::count(rate))
    } else {
        let rate = native.and_then(|native| native.trend.rate()).map_or(0.0, |rate| rate.value);
        format!("{verb} memory outside of Go's heap: {}/s", human::bytes(rate))
    };
    let of_heap = match heap {
        Verdict::Leaking => "; its heap leaks, too",
        Verdict::Growing => "; its heap grows, too",
        _ => "",
    };
    Some(format!("{what}{of_heap}"))
}

/// What is said of the heap alone.
fn heap_headline(snapshot: &Snapshot) -> Option<String> {
    let assessment = snapshot.assessment.as_deref()?;
    let sites = judged(snapshot);
    let grown = sites.iter().filter(|site| site.verdict >= Verdict::Growing).count();
    let named = || sites.iter().filter(|site| site.verdict >= Verdict::Growing).filter_map(|site| site.growth);
    let rate = match assessment.verdict {
        Verdict::Leaking => human::bytes(named().map(|growth| growth.growth_bytes_per_s.value).sum()),
        _ => human::bytes(assessment.rising_bytes_per_s),
    };
    let window = human::seconds(assessment.window_s);
    Some(match assessment.verdict {
        Verdict::Leaking => {
            let first =
                sites.first().map_or_else(String::new, |site| format!(" {}", untrusted::name(&site.place.function)));
            match grown {
                1 => format!("leaks: one line,{first}, keeps {rate}/s more alive"),
                _ => format!("leaks: {grown} lines keep {rate}/s more alive, most of all{first}"),
            }
        }
        Verdict::Growing if grown > 0 => format!("probably leaks: what is alive grows by {rate}/s"),
        Verdict::Growing => {
            format!("grows: {rate}/s more are alive, and it is not known yet which line allocates them")
        }
        Verdict::WarmingUp => String::from("is warming up: what is alive still grows, and ever more slowly"),
        Verdict::Steady => format!("has a heap that does not grow, as far as {window} of collections tell"),
        Verdict::Shrinking => format!("has a heap that shrinks: over {window} ever less was alive"),
        Verdict::Unknown => String::from("has not been seen for long enough to say whether it leaks"),
    })
}

/// Until when memory lasts.
pub(super) fn forecast(page: &mut Page, snapshot: &Snapshot) {
    let Some(forecast) = &snapshot.forecast else { return };
    let whose = match forecast.limit.source {
        LimitSource::Cgroup => "the limit of its control group",
        LimitSource::Gomemlimit => "GOMEMLIMIT, beyond which the collector runs all the time",
        LimitSource::Host => "the memory of the host",
    };
    let until = forecast.seconds.high.map_or_else(
        || format!("not before {}", human::seconds(forecast.seconds.low)),
        |high| {
            let Rate { value, low, .. } = forecast.seconds;
            format!("in {} ({} to {})", human::seconds(value), human::seconds(low), human::seconds(high))
        },
    );
    page.warning(&format!(
        "If it goes on like this, memory runs out {until}: {} of {} are used, {whose}, and {}/s come on top.",
        human::bytes(forecast.used_bytes),
        human::bytes(human::approximate(forecast.limit.bytes)),
        human::bytes(forecast.growth_bytes_per_s.value),
    ));
}

/// Places that start goroutines that become more, and memory outside of Go's heap that does.
pub(super) fn beside_the_heap(page: &mut Page, snapshot: &Snapshot, program: Program<'_>) {
    let growth = snapshot.goroutine_growth.as_deref();
    let sites = growth.map_or(&[][..], |growth| &growth.sites);
    let grown: Vec<_> = sites.iter().filter(|site| site.verdict >= Verdict::Growing).collect();
    if !grown.is_empty() {
        page.section("WHICH GOROUTINES BECOME MORE", "By the line that starts them. Counts are exact.");
    }
    for site in grown.iter().take(MAX_LINES) {
        let rate = site.trend.rate().map_or(0.0, |rate| rate.value);
        let name = site.verdict.name();
        page.strong_line(&format!("{name}  {}/s  {}  [{}]", human::count(rate), function(&site.place), site.id));
        page.indented(2, &growth_words::goroutines(site));
        let table = snapshot.goroutines.as_deref();
        let now = table.and_then(|table| table.sites.iter().find(|now| now.id == site.id));
        if let Some(hint) = now.and_then(|now| hints::of_goroutines(now, program)) {
            page.indented(2, &format!("hint: it {} ({})", hint.sentence(), hint.link()));
        }
    }
    if !grown.is_empty() {
        page.blank();
    }
    let native = snapshot.memory_growth.as_deref().map(|growth| &growth.native);
    if let Some(native) = native.filter(|native| native.verdict >= Verdict::Growing) {
        page.section("MEMORY OUTSIDE OF GO'S HEAP", "");
        page.strong_line(native.verdict.name());
        page.indented(2, &growth_words::native(native));
        let hint = hints::of_native(program);
        page.indented(2, &format!("hint: it {} ({})", hint.sentence(), hint.link()));
        page.blank();
    }
}

/// The lines that grow, each with how fast, how sure, and how it is reached; then what grows without a name.
pub(super) fn section(page: &mut Page, snapshot: &Snapshot) {
    let Some(assessment) = snapshot.assessment.as_deref() else { return };
    let sites = judged(snapshot);
    let grown: Vec<&Judged<'_>> = sites.iter().filter(|site| site.verdict >= Verdict::Growing).collect();
    let unnamed = unnamed(assessment, &grown);
    if grown.is_empty() && unnamed.is_empty() {
        return;
    }
    page.section(
        "WHAT GROWS",
        "By the line that allocates it: the exact growth of the size classes, shared among lines by samples.",
    );
    for site in grown.iter().take(MAX_LINES) {
        line(page, site);
    }
    let hidden = grown.len().saturating_sub(MAX_LINES);
    if hidden > 0 {
        page.quiet_line(&format!("… {hidden} more (--output json)"));
    }
    classes(page, assessment, &unnamed);
    page.blank();
}

fn line(page: &mut Page, site: &Judged<'_>) {
    let Some(growth) = site.growth else { return };
    page.strong_line(&format!(
        "{}  {}/s  {}  [{}]",
        growth.verdict.name(),
        human::bytes(growth.growth_bytes_per_s.value),
        function(site.place),
        site.id
    ));
    page.indented(2, &format!("{} {}", file_and_line(site.place), interval(growth.growth_bytes_per_s)));
    page.indented(2, &format!("why: {}", growth.why));
    if site.is_behind_pool {
        page.indented(2, "It allocates for a pool, so that another line may be the one that keeps.");
    }
    match site.hint {
        Some(hint) => page.indented(2, &format!("hint: it {} ({})", hint.sentence(), hint.link())),
        None => page.indented(2, &format!("what to do: {WHAT_TO_DO}")),
    }
    if let Some(path) = site.paths.first() {
        page.stack(&path.frames, site.place);
    }
}

fn interval(rate: Rate) -> String {
    let low = human::bytes(rate.low.max(0.0));
    rate.high.map_or_else(
        || format!("(at least {low}/s)"),
        |high| format!("({low}/s to {}/s with 95 % confidence)", human::bytes(high)),
    )
}

/// Classes that grow, the fastest first, where nobody is named for it.
fn unnamed<'a>(assessment: &'a Assessment, grown: &[&Judged<'_>]) -> Vec<(&'a ClassAssessment, Rate)> {
    if !grown.is_empty() {
        return Vec::new();
    }
    let mut classes: Vec<_> = assessment
        .classes
        .iter()
        .filter_map(|class| match class.trend {
            Trend::Rising(rate) if rate.value >= MIN_CLASS_BYTES_PER_S => Some((class, rate)),
            _ => None,
        })
        .collect();
    classes.sort_by(|(_, one), (_, other)| other.value.total_cmp(&one.value));
    classes
}

fn classes(page: &mut Page, assessment: &Assessment, classes: &[(&ClassAssessment, Rate)]) {
    for (class, rate) in classes.iter().take(MAX_CLASSES) {
        let size = class.size_bytes.map_or_else(
            || String::from("large objects"),
            |size| format!("objects of {}", human::bytes(human::approximate(size))),
        );
        page.line(&format!("{size} grow by {}/s {}", human::bytes(rate.value), interval(*rate)));
    }
    if let Some(due) = assessment.name_due_s.filter(|_| !classes.is_empty()) {
        page.line(&format!("Who allocates them is known once enough was sampled: about {} more.", human::seconds(due)));
    }
}
