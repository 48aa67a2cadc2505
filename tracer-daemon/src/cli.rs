//! The command line: what may be asked for, before anything is looked at.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use regex::bytes::Regex;

use crate::{
    attach::adopt::STATE_FOLDER,
    model::verdict::Verdict,
    pipeline::{KILLSWITCH, check::ReadyUrl},
};

/// Which line of a running Go program leaks, how fast, and when does memory run out?
///
/// Attaches to a running Go program without changing or restarting it. Needs root or the capabilities that `leakline
/// doctor` names.
#[derive(Debug, Parser)]
#[command(name = "leakline", version, max_term_width = 100, after_help = EXIT_STATUS)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "\
Exit status:
  0  done; also when the target ended during attach
  1  failed
  2  usage
  3  this host or binary does not allow it (the message says what is missing)
  4  no such target, or not a Go program
  10 the condition of --fail-on or check is met: it leaks";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch one process for a while and report
    Attach(AttachArgs),
    /// Watch one process as attach does, and write all that was seen to a file
    Record(RecordArgs),
    /// Make the reports of a recording again, anywhere
    Replay(ReplayArgs),
    /// Watch processes continuously and serve metrics
    Run(RunArgs),
    /// Run a command and fail if it leaks, or leaks more than a baseline: for pipelines
    Check(Box<CheckArgs>),
    /// Write a process's own heap profile as a pprof file, without asking it
    Snapshot(SnapshotArgs),
    /// Compare two heap profiles: which lines hold more now
    Diff(DiffArgs),
    /// Turn off a sampler that --adopt-sampler of a killed leakline has left on
    Restore(RestoreArgs),
    /// Show what the resident memory of a process consists of; attaches nothing
    Memory(LookArgs),
    /// Show every goroutine: what it waits for, where, and who started it; attaches nothing
    Goroutines(LookArgs),
    /// Show what would be probed in a binary or process, or why not; attaches nothing
    Plan(PlanArgs),
    /// Show what this host allows, what is missing, and how to fix it
    Doctor(DoctorArgs),
    /// What `check` starts itself as, to own the command
    #[command(hide = true)]
    Supervise(SuperviseArgs),
}

/// One process.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct TargetArgs {
    /// Process id
    #[arg(long, value_name = "N")]
    pub pid: Option<u32>,
    /// File name of the executable; *, ? and [a-z] are understood. Must match one process
    #[arg(long, value_name = "GLOB")]
    pub name: Option<String>,
}

/// The kinds of evidence that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EvidenceChoice {
    /// The best that can be had within --max-overhead: `bursts` where the kernel allows it, else `books`, and why. Never `exact`
    Auto,
    /// What the runtime knows by itself, read from the target's memory: no probe, no cost to the target
    Books,
    /// `books`, and every allocation hooked in short windows at random times, within --max-overhead; objects that were caught
    /// are followed through collections. Where windows cannot be had it is `books`, and the report says why
    Bursts,
    /// A trap on every allocation: exact counts per line, about 1 µs of the target's time each
    Exact,
}

/// Formats of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people
    Text,
    /// One document of schema leakline/1
    Json,
}

/// `leakline attach`
#[derive(Args, Debug)]
pub struct AttachArgs {
    /// The process
    #[command(flatten)]
    pub target: TargetArgs,
    /// How long to watch, e.g. 10s, 2m (with --fail-on leaking: 3m or more). Ctrl-C ends early with a full report
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub duration: Duration,
    /// What to look with, and how to judge
    #[command(flatten)]
    pub means: MeansArgs,
    /// How to print
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
    /// Also report on the way, this often (with --output json: one document a line)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub interval: Option<Duration>,
    /// At the end, also write a pprof file (gzip of profile.proto) of what is alive and of what grew in the window, with the
    /// verdicts as labels and comments: `go tool pprof -sample_index=growth_space -top FILE`
    #[arg(long, value_name = "FILE")]
    pub pprof: Option<PathBuf>,
    /// Exit with status 10 if the process or a line is judged to be this, or worse. That something leaks can be said of the
    /// heap after a minute, of goroutines after 90 s and of native memory after two minutes at the earliest, so the usual
    /// --duration is too short: give 3m or more. What was seen for less is warned of
    #[arg(long, value_enum)]
    pub fail_on: Option<FailOn>,
}

/// The least verdict that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// It grows beyond chance and does not slow down, twice in a row
    Leaking,
    /// It probably grows
    Growing,
}

impl FailOn {
    /// The verdict.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Leaking => Verdict::Leaking,
            Self::Growing => Verdict::Growing,
        }
    }
}

/// What to look at a process with, and how to judge what is seen.
#[derive(Args, Clone, Debug)]
pub struct MeansArgs {
    /// What to measure with. What `exact` counts cannot be recorded
    #[arg(long, value_enum, default_value_t = EvidenceChoice::Auto)]
    pub evidence: EvidenceChoice,
    /// How much of its CPU time, and of one core, windows may cost the target: 0.05% to 50%. All targets of this leakline together may pay 3% of a
    /// core, or twice this if that is more. Only windows and the hooks beside them obey it: `books` costs a target nothing, and `exact` costs what
    /// it costs
    #[arg(long, default_value = "1%", value_name = "PERCENT", value_parser = overhead)]
    pub max_overhead: f64,
    /// While this file is there, no probe is put into another process, and those that are there are taken away
    #[arg(long, value_name = "FILE", default_value = KILLSWITCH)]
    pub killswitch: PathBuf,
    /// Opens windows by perf events, as on kernels before 6.6: for tests
    #[arg(long, hide = true)]
    pub windows_by_perf_events: bool,
    /// From this age on a program is taken to be warm: only then may what grows be said to leak, and not only to grow. 0s: it
    /// is warm already
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = duration_or_none)]
    pub warm_after: Duration,
    /// Whether to write to it
    #[command(flatten)]
    pub adoption: AdoptionArgs,
}

/// Whether to turn on samplers that are off.
#[derive(Args, Clone, Debug)]
pub struct AdoptionArgs {
    /// For a program whose sampler is off: turn it on while we look (writes 8 bytes to the process), then off again
    #[arg(long)]
    pub adopt_sampler: bool,
    /// Where it is noted what was written to a process, for `leakline restore`
    #[arg(long, value_name = "FOLDER", default_value = STATE_FOLDER)]
    pub state_dir: PathBuf,
}

impl AdoptionArgs {
    /// The folder of notes, where it is wanted.
    pub fn folder(self) -> Option<PathBuf> {
        self.adopt_sampler.then_some(self.state_dir)
    }
}

/// `leakline record`
#[derive(Args, Debug)]
pub struct RecordArgs {
    /// The process
    #[command(flatten)]
    pub target: TargetArgs,
    /// Where to write, for `leakline replay`: names of functions and files, counts and addresses, never contents of memory. A
    /// file that is there is replaced
    #[arg(short = 'o', long = "file", value_name = "FILE")]
    pub file: PathBuf,
    /// How long to watch, e.g. 10s, 2m. Ctrl-C ends early with a full report
    #[arg(long, default_value = "2m", value_parser = duration)]
    pub duration: Duration,
    /// End when the file has become this large, e.g. 500KiB, 1GiB
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = size)]
    pub max_size: usize,
    /// What to look with, and how to judge
    #[command(flatten)]
    pub means: MeansArgs,
    /// How to print the report
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
    /// Also report on the way, this often (with --output json: one document a line)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub interval: Option<Duration>,
}

/// `leakline replay`
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// A file of `leakline record`; also one that was cut off
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
}

/// `leakline run`
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Process ids to watch
    #[arg(long, value_name = "N", required_unless_present = "name")]
    pub pid: Vec<u32>,
    /// Watch every process whose executable's file name matches; new ones are picked up
    #[arg(long, value_name = "GLOB")]
    pub name: Vec<String>,
    /// Where to serve /metrics, /healthz and /readyz
    #[arg(long, default_value = "127.0.0.1:9464", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// What to look with, and how to judge
    #[command(flatten)]
    pub means: MeansArgs,
    /// Add a `pid` label, so that processes of one name are series of their own
    #[arg(long)]
    pub pid_label: bool,
}

/// `leakline check`
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// What to run: a Go program, or what starts one (a shell, make, `go run`)
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// Compare with this file: only what is worse fails
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write what was measured, for later checks to compare with
    #[arg(long, value_name = "FILE")]
    pub write_baseline: Option<PathBuf>,
    /// How long to measure, e.g. 2m, 5m. Slow leaks need longer. Where --warmup and this are less than about 2m15s together,
    /// it cannot be said of all that it does not leak
    #[arg(long, default_value = "2m", value_parser = duration)]
    pub duration: Duration,
    /// How long to wait before, once it is ready: caches fill
    #[arg(long, default_value = "20s", value_parser = duration_or_none)]
    pub warmup: Duration,
    /// It is ready when GET of this answers with 2xx [default: when it runs]
    #[arg(long, value_name = "URL")]
    pub ready_url: Option<ReadyUrl>,
    /// It is ready when a line of its output matches
    #[arg(long, value_name = "REGEX")]
    pub ready_log: Option<Regex>,
    /// How long it may take to begin and be ready
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = duration)]
    pub start_timeout: Duration,
    /// Load, run by `sh -c` from when it is ready until the end
    #[arg(long, value_name = "COMMAND")]
    pub load: Option<OsString>,
    /// File name of the executable to measure; *, ? and [a-z] are understood [default: the command itself, else which
    /// listens, else which holds most memory]
    #[arg(long, value_name = "GLOB")]
    pub name: Option<String>,
    /// The least verdict that fails. What was not seen for long enough to be judged so is unknown: no failure without --strict
    #[arg(long, value_enum, default_value_t = FailOn::Leaking)]
    pub fail_on: FailOn,
    /// Fail also where it cannot be said
    #[arg(long)]
    pub strict: bool,
    /// With a baseline: how much faster a known growth may be, since machines and loads differ
    #[arg(long, default_value = "20%", value_name = "PERCENT", value_parser = percentage)]
    pub tolerance: f64,
    /// What to measure with: `auto` and `books` are the same here, since a check opens no windows
    #[arg(long, value_enum, default_value_t = EvidenceChoice::Auto)]
    pub evidence: EvidenceChoice,
    /// Do not turn on the sampler of a program that was built without one: then no line has a name
    #[arg(long)]
    pub no_adopt_sampler: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
    /// Also write `JUnit` XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Also append a summary in Markdown, e.g. to `$GITHUB_STEP_SUMMARY`
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Where the command's output goes [default: stderr]
    #[arg(long, value_name = "FILE")]
    pub command_output: Option<PathBuf>,
    /// Between SIGTERM and SIGKILL at the end
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = duration_or_none)]
    pub grace: Duration,
}

/// `leakline supervise`
#[derive(Args, Debug)]
pub struct SuperviseArgs {
    /// What to run
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
    /// What `sh -c` runs when told to
    #[arg(long)]
    pub load: Option<OsString>,
    /// Between SIGTERM and SIGKILL
    #[arg(long, value_parser = duration_or_none)]
    pub grace: Duration,
}

/// `leakline snapshot`
#[derive(Args, Debug)]
pub struct SnapshotArgs {
    /// The process
    #[command(flatten)]
    pub target: TargetArgs,
    /// Where to write the profile (gzip of profile.proto, for `go tool pprof` and `leakline diff`)
    #[arg(short = 'o', long = "file", value_name = "FILE.pb.gz")]
    pub file: PathBuf,
    /// Write all that was counted until now instead of what /debug/pprof/heap would say, which is as of a collection: garbage
    /// of which nothing is known yet counts as in use
    #[arg(long)]
    pub newest: bool,
    /// For a program whose sampler is off: turn it on for --duration (writes 8 bytes to the process), then off again
    #[arg(long)]
    pub adopt_sampler: bool,
    /// How long to keep the sampler on. Ctrl-C ends early and writes the file
    #[arg(long, default_value = "30s", value_parser = duration, requires = "adopt_sampler")]
    pub duration: Duration,
    /// Where it is noted what was written to a process, for `leakline restore`
    #[arg(long, value_name = "FOLDER", default_value = STATE_FOLDER)]
    pub state_dir: PathBuf,
}

/// Formats of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiffOutput {
    /// For people
    Text,
    /// One document of schema leakline/1
    Json,
    /// A pprof file: B less A, stack by stack
    Pprof,
}

/// `leakline diff`
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// The older profile: of `leakline snapshot`, or any heap profile of Go
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// The newer one
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value_t = DiffOutput::Text)]
    pub output: DiffOutput,
    /// The module whose lines are your own, e.g. github.com/you/shop [default: what the files of `leakline snapshot` say]
    #[arg(long, value_name = "PATH")]
    pub main_module: Option<String>,
}

/// `leakline restore`
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// Process id
    #[arg(long, value_name = "N")]
    pub pid: u32,
    /// Where it was noted what was written
    #[arg(long, value_name = "FOLDER", default_value = STATE_FOLDER)]
    pub state_dir: PathBuf,
}

/// `leakline memory`, `leakline goroutines`: one look
#[derive(Args, Debug)]
pub struct LookArgs {
    /// The process
    #[command(flatten)]
    pub target: TargetArgs,
    /// How to print
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
}

/// `leakline plan`
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").required(true).args(["file", "pid", "name", "all"])))]
pub struct PlanArgs {
    /// Process id
    #[arg(long, value_name = "N")]
    pub pid: Option<u32>,
    /// File name of the executable of a running process
    #[arg(long, value_name = "GLOB")]
    pub name: Option<String>,
    /// Every running process: a table of their binaries
    #[arg(long)]
    pub all: bool,
    /// An executable file, or a folder: a table of the Go programs in it and below
    #[arg(value_name = "FILE|FOLDER")]
    pub file: Option<PathBuf>,
    /// In a table, list what is not a Go program, too
    #[arg(long)]
    pub verbose: bool,
    /// How to print; as JSON, a table is one document a line
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
}

/// `leakline doctor`
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// How to print
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
}

/// Beyond this a clock would not hold the end.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = duration_or_none(text)?;
    if parsed.is_zero() {
        return Err("must be longer than nothing".to_owned());
    }
    Ok(parsed)
}

fn duration_or_none(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text).map_err(|error| format!("{error} (e.g. 10s, 2m, 1h30m)"))?;
    if parsed > LONGEST {
        return Err("must be at most a year".to_owned());
    }
    Ok(parsed)
}

/// Less would hold no look.
const LEAST_SIZE: usize = 4 << 10;

fn size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match text.get(digits.len()..).map(str::trim) {
        Some("" | "B") => 1,
        Some("k" | "kB" | "KB") => 1000,
        Some("K" | "KiB") => 1 << 10,
        Some("MB") => 1_000_000,
        Some("M" | "MiB") => 1 << 20,
        Some("GB") => 1_000_000_000,
        Some("G" | "GiB") => 1 << 30,
        _ => return Err("a number of bytes with KiB, MiB or GiB (e.g. 64MiB)".to_owned()),
    };
    let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    match bytes.ok_or_else(|| "a number of bytes with KiB, MiB or GiB (e.g. 64MiB)".to_owned())? {
        bytes if bytes < LEAST_SIZE => Err("must be at least 4KiB".to_owned()),
        bytes => Ok(bytes),
    }
}

/// A part: 0.2 of `20%` or `20`.
fn percentage(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    let percent: f64 = number.parse().map_err(|_no_number| "must be a number, e.g. 20%".to_owned())?;
    if (0.0..=1000.0).contains(&percent) { Ok(percent / 100.0) } else { Err("must be from 0% to 1000%".to_owned()) }
}

/// A share of CPU time.
fn overhead(text: &str) -> Result<f64, String> {
    let share = percentage(text)?;
    if (0.0005..=0.5).contains(&share) { Ok(share) } else { Err("must be from 0.05% to 50%".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn one_target_is_required_and_only_one() {
        assert!(Cli::try_parse_from(["leakline", "attach"]).is_err());
        assert!(Cli::try_parse_from(["leakline", "attach", "--pid", "1", "--name", "x"]).is_err());
        assert!(Cli::try_parse_from(["leakline", "attach", "--pid", "1"]).is_ok());
        assert!(Cli::try_parse_from(["leakline", "run"]).is_err());
        let nothing = Cli::try_parse_from(["leakline", "plan"]).unwrap_err().to_string();
        assert!(nothing.contains("<FILE|FOLDER|--pid <N>|--name <GLOB>|--all>"), "{nothing}");
        assert!(Cli::try_parse_from(["leakline", "plan", "file"]).is_ok());
        assert!(Cli::try_parse_from(["leakline", "plan", "--all"]).is_ok());
        assert!(Cli::try_parse_from(["leakline", "plan", "--all", "file"]).is_err());
        assert!(Cli::try_parse_from(["leakline", "plan", "--all", "--pid", "1"]).is_err());
    }

    #[test]
    fn a_check_needs_a_command_behind_two_dashes() {
        let parse = |more: &[&str]| Cli::try_parse_from(["leakline", "check"].iter().chain(more));
        assert!(parse(&[]).is_err() && parse(&["./server"]).is_err());
        assert!(parse(&["--warmup", "0s", "--", "./server", "--duration", "x"]).is_ok());
        for bad in [["--ready-url", "https://h/"], ["--ready-log", "("], ["--tolerance", "-1"], ["--duration", "0s"]] {
            assert!(parse(&[bad[0], bad[1], "--", "x"]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn percentages_are_parts() {
        assert_eq!([percentage("20%"), percentage("7.5"), percentage("0 %")], [Ok(0.2), Ok(0.075), Ok(0.0)]);
        assert!(percentage("many").is_err() && percentage("NaN").is_err());
    }

    #[test]
    fn a_duration_needs_a_unit() {
        assert!(duration("10").unwrap_err().contains("10s"));
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert!(duration("0s").is_err());
        assert!(duration("300000000000y").is_err());
    }

    #[test]
    fn a_size_is_bytes_or_has_a_unit() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("100000"), Ok(100_000));
        assert_eq!(size("2GB"), Ok(2_000_000_000));
        for bad in ["", "MiB", "-5MiB", "5 lions", "1.5MiB", "99999999999999GiB", "1KiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
