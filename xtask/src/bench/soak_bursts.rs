//! A real Prometheus and etcd under bounded load, followed by `leakline run --evidence bursts` within the default budget: what bursts cost, by leakline's own
//! metrics and by what the two do and pay meanwhile; whether anything is lost, accused, or left behind.
//!
//! Phases alternate: without, with, without, … A phase with leakline is compared with the mean of the two next to it, so that slow
//! drift cancels; each without is compared with the one before, which shows what is noise. The measure is CPU time per request, less
//! noisy than throughput where others use the machine, too. Pictures are made by `soak_chart.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::json;

use super::exposition::{Page, Told};
use super::processes::{changed_text, cpu_s, load_average, processes_of};
use super::services::{Etcd, Process, Prometheus, free_address, get};
use super::soak_chart;
use super::stats::Estimate;
use crate::{build_leakline, command};

/// Options of `cargo xtask bench soak-bursts`.
#[derive(Debug, clap::Args)]
pub(crate) struct SoakArgs {
    /// How often leakline is started and ended
    #[arg(long, default_value_t = 4)]
    phases: usize,
    /// How long it runs each time
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    with: Duration,
    /// How long nothing runs before, between and after
    #[arg(long, default_value = "2m", value_parser = humantime::parse_duration)]
    without: Duration,
    /// How long the services run before
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    warmup: Duration,
    /// Between two looks
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    every: Duration,
    /// Also write what was seen as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the summary and its pictures as text
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
}

/// One look at one service.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ServiceLook {
    /// Since the look before.
    pub(super) requests_per_s: f64,
    pub(super) cpu_us_per_request: f64,
    /// CPU time over time: 1 is a core.
    pub(super) cores: f64,
    told: Option<Told>,
}

impl ServiceLook {
    pub(super) fn overhead_ratio(&self) -> Option<f64> {
        self.told.as_ref()?.overhead_ratio
    }
}

/// One look at leakline.
#[derive(Clone, Debug, Serialize)]
pub(super) struct OwnLook {
    /// CPU time of it and of the processes that hold its probes, over time since the look before.
    pub(super) cores: f64,
    pub(super) rss_bytes: f64,
    probe_hits: f64,
    /// What was lost since it was started, by reason; only what is not 0.
    lost: BTreeMap<String, f64>,
}

/// One look at all.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    at_s: f64,
    phase: usize,
    pub(super) load_average: f64,
    pub(super) services: Vec<ServiceLook>,
    pub(super) leakline: Option<OwnLook>,
}

/// What a service did in a phase.
#[derive(Clone, Copy, Debug, Serialize)]
struct Done {
    requests_per_s: f64,
    cpu_us_per_request: f64,
}

/// What was seen of a phase with leakline.
#[derive(Debug, Serialize)]
struct Followed {
    /// What was said last of each service.
    told: Vec<Told>,
    probe_hits: f64,
    lost: BTreeMap<String, f64>,
    /// Windows by the log.
    windows_in_log: usize,
    /// Bytes of text that differed from the file while it ran, of each service: its probes.
    changed_while_running: Vec<usize>,
    /// And after it had ended.
    changed_after: Vec<usize>,
    /// Processes of it that were there after it had ended.
    left_behind: usize,
    /// CPU time of each service.
    services_cpu_s: Vec<f64>,
    cpu_s: f64,
    rss_bytes_max: f64,
    /// How long it took to end.
    end_s: f64,
}

/// A service against itself.
#[derive(Debug, Serialize)]
struct Compared {
    service: &'static str,
    measure: &'static str,
    without: Estimate,
    with: Estimate,
    /// With leakline over without.
    ratio: Estimate,
    /// Without over without: what is noise.
    ratio_of_nothing: Estimate,
}

/// The services in the order of all lists here.
pub(super) const SERVICES: [&str; 2] = ["prometheus", "etcd"];
/// After leakline has ended, whatever it started must be gone in this time.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// Between the queries of a client of Prometheus: it shall be busy, and not all the time.
const QUERY_PAUSE: Duration = Duration::from_millis(10);
/// Writes per second of each client of etcd.
const PUTS_PER_S: u32 = 400;

/// Runs both services and prints what was seen.
pub(crate) fn run(root: &Path, args: &SoakArgs) -> Result<()> {
    let commit = command::capture(Command::new("git").current_dir(root).args(["rev-parse", "HEAD"]))?;
    let folder = root.join("target/bench/soak");
    fs::create_dir_all(&folder)?;
    // A copy: the original may be built anew meanwhile, and processes are known by it.
    let leakline = folder.join("leakline");
    fs::copy(build_leakline(root)?, &leakline)?;
    let phases = u32::try_from(args.phases)?;
    let duration = args.with * phases + args.without * (phases + 1);
    let mut soak = Soak::start(root, &folder, args, duration)?;
    thread::sleep(args.warmup);

    let untouched = soak.changed_text()?;
    let mut without = vec![soak.phase(args.without, None)?];
    let (mut with, mut followed) = (Vec::new(), Vec::new());
    for number in 0..args.phases {
        let (done, seen) = soak.phase_with(args.with, &leakline, &folder.join(format!("leakline-{number}.log")))?;
        with.push(done);
        followed.push(seen);
        without.push(soak.phase(args.without, None)?);
    }
    let compared = compare(&with, &without)?;
    let running = [soak.prometheus.service.0.try_wait()?, soak.etcd.service.0.try_wait()?].map(|ended| ended.is_none());
    let accused: Vec<&String> = soak.accused.iter().collect();
    let text = summary(&commit, duration, &soak.samples, &followed, &compared, &accused);
    print!("{text}");
    if let Some(path) = &args.text {
        fs::write(path, &text)?;
    }
    if let Some(path) = &args.json {
        let document = json!({
            "commit": commit.trim(),
            "duration_seconds": duration.as_secs(),
            "with_seconds": args.with.as_secs(),
            "without_seconds": args.without.as_secs(),
            "services": SERVICES,
            "still_running": running,
            "changed_text_before": untouched,
            "accused": accused,
            "compared": compared,
            "followed": followed,
            "samples": soak.samples,
        });
        fs::write(path, serde_json::to_string(&document)? + "\n")?;
    }
    ensure!(running == [true, true], "a service has ended: {running:?}");
    ensure!(untouched == [0, 0], "text differed from the file before leakline came: {untouched:?}");
    ensure!(accused.is_empty(), "lines were said to leak: {accused:?}");
    followed.iter().try_for_each(Followed::judge)
}

impl Followed {
    fn judge(&self) -> Result<()> {
        let Self { changed_while_running, changed_after, left_behind, told, .. } = self;
        // Otherwise the comparison is blind: one probe, that on collections, is always there.
        ensure!(changed_while_running.iter().all(|bytes| *bytes > 0), "no probe was seen in {changed_while_running:?}");
        ensure!(changed_after.iter().all(|bytes| *bytes == 0), "text was not restored: {changed_after:?}");
        ensure!(*left_behind == 0, "{left_behind} processes were left behind");
        ensure!(told.iter().all(|told| told.bursts > 0.0), "no window was opened in a service: {told:?}");
        Ok(())
    }
}

/// The services under load, and what was seen so far.
struct Soak {
    prometheus: Prometheus,
    etcd: Etcd,
    every: Duration,
    began: Instant,
    phase: usize,
    samples: Vec<Sample>,
    accused: BTreeSet<String>,
}

/// What both services and leakline had done at a moment.
#[derive(Clone, Copy)]
struct Counts {
    at: Instant,
    requests: [f64; 2],
    cpu_s: [f64; 2],
    own_cpu_s: Option<f64>,
}

/// A leakline that runs.
struct Leakline {
    process: Process,
    address: SocketAddr,
}

impl Soak {
    #[expect(clippy::disallowed_methods, reason = "throughput is counted per second")]
    fn start(root: &Path, folder: &Path, args: &SoakArgs, duration: Duration) -> Result<Self> {
        let etcd = Etcd::start_at_rate(root, folder, args.warmup + duration + Duration::from_secs(120), PUTS_PER_S)?;
        let prometheus = Prometheus::start_with_pauses(root, folder, QUERY_PAUSE)?;
        let began = Instant::now();
        let (samples, accused) = (Vec::new(), BTreeSet::new());
        Ok(Self { prometheus, etcd, every: args.every, began, phase: 0, samples, accused })
    }

    fn pids(&self) -> [u32; 2] {
        [self.prometheus.service.0.id(), self.etcd.service.0.id()]
    }

    fn changed_text(&self) -> Result<Vec<usize>> {
        self.pids().into_iter().map(changed_text).collect()
    }

    fn services_cpu_s(&self) -> Result<Vec<f64>> {
        self.pids().into_iter().map(|pid| cpu_s(pid, false)).collect()
    }

    fn phase_with(&mut self, length: Duration, program: &Path, log: &Path) -> Result<([Done; 2], Followed)> {
        let address = free_address()?;
        let [first, second] = self.pids().map(|pid| pid.to_string());
        let mut run = Command::new(program);
        run.args(["run", "--listen", &address.to_string(), "--evidence", "bursts", "--pid", &first, "--pid", &second]);
        let process = Process::start(run.env("LEAKLINE_LOG", "debug").env("NO_COLOR", "1"), log)?;
        let mut leakline = Leakline { process, address };
        let begin = self.samples.len();
        let before = self.services_cpu_s()?;
        let done = self.phase(length, Some(&mut leakline))?;
        let services_cpu_s = self.services_cpu_s()?.into_iter().zip(before).map(|(now, before)| now - before);
        ensure!(leakline.process.0.try_wait()?.is_none(), "leakline has ended by itself: see {}", log.display());
        // Probes come and go in windows, the one on collections stays.
        let changed_while_running = self.changed_text()?;
        let cpu_s = cpu_s(leakline.process.0.id(), true)?;
        let end = self.began.elapsed();
        command::run(Command::new("kill").args(["-TERM", &leakline.process.0.id().to_string()]))?;
        ensure!(leakline.process.0.wait()?.success(), "leakline failed: see {}", log.display());
        let end_s = self.began.elapsed().saturating_sub(end).as_secs_f64();
        thread::sleep(GONE_WITHIN);
        let looks = self.samples.get(begin..).unwrap_or_default();
        let own = || looks.iter().filter_map(|sample| sample.leakline.as_ref());
        let last = own().next_back().context("leakline was never asked")?;
        let services = looks.iter().rev().find(|sample| sample.leakline.is_some()).map(|sample| &sample.services);
        let told = services.into_iter().flatten().map(|service| service.told.clone().unwrap_or_default());
        let followed = Followed {
            told: told.collect(),
            probe_hits: last.probe_hits,
            lost: last.lost.clone(),
            windows_in_log: fs::read_to_string(log)?.matches("a window opens").count(),
            changed_while_running,
            changed_after: self.changed_text()?,
            left_behind: processes_of(program)?,
            services_cpu_s: services_cpu_s.collect(),
            cpu_s,
            rss_bytes_max: own().map(|own| own.rss_bytes).fold(0.0, f64::max),
            end_s,
        };
        Ok((done, followed))
    }

    /// Looks now and then for so long.
    fn phase(&mut self, length: Duration, mut leakline: Option<&mut Leakline>) -> Result<[Done; 2]> {
        let first = self.counts(leakline.as_deref())?;
        let mut before = first;
        while before.at.duration_since(first.at) + self.every / 2 < length {
            let rest = length.saturating_sub(before.at.duration_since(first.at));
            thread::sleep(self.every.min(rest));
            let now = self.counts(leakline.as_deref())?;
            let sample = self.look(before, now, leakline.as_deref_mut())?;
            self.samples.push(sample);
            before = now;
        }
        self.phase += 1;
        Ok(std::array::from_fn(|service| done(first, before, service)))
    }

    #[expect(clippy::disallowed_methods, reason = "throughput is counted per second")]
    fn counts(&self, leakline: Option<&Leakline>) -> Result<Counts> {
        let [prometheus, etcd] = self.pids();
        Ok(Counts {
            at: Instant::now(),
            requests: [self.prometheus.answers(), self.etcd.puts()?],
            cpu_s: [cpu_s(prometheus, false)?, cpu_s(etcd, false)?],
            own_cpu_s: leakline.map(|leakline| cpu_s(leakline.process.0.id(), true)).transpose()?,
        })
    }

    fn look(&mut self, before: Counts, now: Counts, leakline: Option<&mut Leakline>) -> Result<Sample> {
        let seconds = now.at.duration_since(before.at).as_secs_f64();
        let page = match leakline {
            Some(leakline) => {
                ensure!(leakline.process.0.try_wait()?.is_none(), "leakline has ended by itself");
                // In the first seconds it may not serve yet.
                get(leakline.address, "/metrics").map(Page)
            }
            None => None,
        };
        let services = SERVICES.into_iter().enumerate().map(|(index, service)| {
            let Done { requests_per_s, cpu_us_per_request } = done(before, now, index);
            let cores = (now.cpu_s[index] - before.cpu_s[index]) / seconds;
            let told = page.as_ref().map(|page| page.told(service));
            ServiceLook { requests_per_s, cpu_us_per_request, cores, told }
        });
        let services = services.collect();
        let own_cpu_s = now.own_cpu_s.zip(before.own_cpu_s).map_or(0.0, |(now, before)| now - before);
        let leakline = page.as_ref().map(|page| OwnLook {
            cores: own_cpu_s / seconds,
            rss_bytes: page.sum("process_resident_memory_bytes", &[]),
            probe_hits: page.sum("leakline_probe_hits_total", &[]),
            lost: page.lost(),
        });
        self.accused.extend(page.iter().flat_map(Page::accused));
        Ok(Sample {
            at_s: self.began.elapsed().as_secs_f64(),
            phase: self.phase,
            load_average: load_average()?,
            services,
            leakline,
        })
    }
}

fn done(before: Counts, now: Counts, service: usize) -> Done {
    let seconds = now.at.duration_since(before.at).as_secs_f64();
    let requests = now.requests[service] - before.requests[service];
    let cpu_s = now.cpu_s[service] - before.cpu_s[service];
    Done { requests_per_s: requests / seconds, cpu_us_per_request: 1e6 * cpu_s / requests.max(1.0) }
}

fn compare(with: &[[Done; 2]], without: &[[Done; 2]]) -> Result<Vec<Compared>> {
    type Measure = (&'static str, fn(&Done) -> f64);
    const MEASURES: [Measure; 2] = [
        ("requests per second", |done| done.requests_per_s),
        ("CPU time per request, us", |done| done.cpu_us_per_request),
    ];
    let mut compared = Vec::new();
    for (index, service) in SERVICES.into_iter().enumerate() {
        for (measure, of) in MEASURES {
            let values = |phases: &[[Done; 2]]| phases.iter().map(|phase| of(&phase[index])).collect::<Vec<_>>();
            let (with, without) = (values(with), values(without));
            let ratios = with.iter().zip(without.windows(2)).map(|(with, beside)| match beside {
                [before, after] => with / f64::midpoint(*before, *after),
                _ => f64::NAN,
            });
            let nothing = without.windows(2).map(|beside| match beside {
                [before, after] => after / before,
                _ => f64::NAN,
            });
            compared.push(Compared {
                service,
                measure,
                ratio: Estimate::of(&ratios.collect::<Vec<_>>()).context("no phases")?,
                ratio_of_nothing: Estimate::of(&nothing.collect::<Vec<_>>()).context("no phases")?,
                without: Estimate::of(&without).context("no phases")?,
                with: Estimate::of(&with).context("no phases")?,
            });
        }
    }
    Ok(compared)
}

fn summary(
    commit: &str,
    duration: Duration,
    samples: &[Sample],
    followed: &[Followed],
    compared: &[Compared],
    accused: &[&String],
) -> String {
    let mut lines = vec![
        format!(
            "leakline run on a Prometheus and an etcd, {} s in all, of which {} phases with leakline; commit {}",
            duration.as_secs(),
            followed.len(),
            commit.trim()
        ),
        String::new(),
        "service | measure | without | with | ratio (least to most) | nothing against nothing".to_owned(),
    ];
    lines.extend(compared.iter().map(|row| {
        format!(
            "{} | {} | {:.1} | {:.1} | {:.4} ({:.4} to {:.4}) of {} | {:.4} ({:.4} to {:.4})",
            row.service,
            row.measure,
            row.without.median,
            row.with.median,
            row.ratio.median,
            row.ratio.low,
            row.ratio.high,
            row.ratio.values,
            row.ratio_of_nothing.median,
            row.ratio_of_nothing.low,
            row.ratio_of_nothing.high,
        )
    }));
    lines.push(String::new());
    for (number, phase) in followed.iter().enumerate() {
        lines.push(format!(
            "phase {} with leakline: {} hits, {} windows in the log, lost {:?}; leakline used {:.1} s of CPU time and at most {:.0} \
             MiB, and ended in {:.2} s; bytes of text that differ: {:?} while it ran, {:?} after; processes left behind: {}",
            number + 1,
            phase.probe_hits,
            phase.windows_in_log,
            phase.lost,
            phase.cpu_s,
            phase.rss_bytes_max / f64::from(1 << 20),
            phase.end_s,
            phase.changed_while_running,
            phase.changed_after,
            phase.left_behind,
        ));
        lines.extend(SERVICES.iter().zip(&phase.told).map(|(service, told)| {
            format!(
                "  {service}: {} windows open for {:.3} s, {} births, {} collections looked at, {} missed; {:.2} s of CPU time added, \
                 {:.3} % in the last minute; verdict {}",
                told.bursts,
                told.open_s,
                told.births,
                told.looked,
                told.missed,
                told.added_cpu_s,
                100.0 * told.overhead_ratio.unwrap_or_default(),
                told.verdict.as_deref().unwrap_or("none"),
            )
        }));
    }
    for (index, service) in SERVICES.into_iter().enumerate() {
        let sum = |of: &dyn Fn(&Followed) -> f64| followed.iter().map(of).sum::<f64>();
        let added_s = sum(&|phase| phase.told.get(index).map_or(0.0, |told| told.added_cpu_s));
        let cpu_s = sum(&|phase| phase.services_cpu_s.get(index).copied().unwrap_or_default());
        let ratios = samples.iter().filter_map(|sample| sample.services.get(index)?.overhead_ratio());
        lines.push(format!(
            "{service}, by leakline's account: {added_s:.2} s added to {cpu_s:.0} s of CPU time, {:.3} %; at most {:.3} % in a minute",
            100.0 * added_s / cpu_s,
            100.0 * ratios.fold(0.0, f64::max),
        ));
    }
    lines.push(format!("said to leak: {accused:?}"));
    lines.push(String::new());
    lines.extend(soak_chart::charts(samples));
    lines.join("\n") + "\n"
}
