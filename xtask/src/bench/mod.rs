//! `cargo xtask bench …`: the numbers that leakline promises, measured as paired ratios against other tracers in the same
//! run. Absolute times are of the machine at hand and are never asserted.

mod account;
mod books;
mod cost;
mod daemon;
mod exposition;
mod goroutines;
mod inspect;
mod kernel_headers;
mod links;
mod marks;
mod model;
pub(crate) mod overhead;
mod pairs;
mod processes;
pub(crate) mod services;
mod slices;
mod soak_books;
mod soak_bursts;
mod soak_chart;
mod soak_verdict;
mod stats;
mod symbolize;
mod target;
mod tracers;
pub(crate) mod truth;

use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    bench: Bench,
}

/// The benches there are.
#[derive(Debug, Subcommand)]
enum Bench {
    /// What tracers cost their target, in CPU time per allocation. Needs root; takes about half an hour.
    Cost(cost::CostArgs),
    /// What leakline's windows cost their target by budget, beside other tracers and nothing. Needs root; all of it takes twelve hours, `--quick` ten minutes
    Overhead(overhead::OverheadArgs),
    /// What reading the books of a process costs leakline, in thread CPU time
    Books(books::BooksArgs),
    /// What `leakline run` takes itself for twenty programs, by the minute. Needs root; nine minutes after the build.
    Daemon(daemon::DaemonArgs),
    /// A Prometheus and an etcd under load whose books are read ten times a second: what breaks, and what it costs them
    SoakBooks(soak_books::SoakArgs),
    /// The same two, watched for a quarter of an hour as users do: whom leakline accuses, and why
    SoakVerdict(soak_verdict::SoakArgs),
    /// The same two, followed by `leakline run --evidence bursts` in phases: what bursts cost them, by its account and by theirs, and
    /// whether anything is lost or left behind. Needs root; half an hour.
    SoakBursts(soak_bursts::SoakArgs),
    /// CPU time and memory that inspecting a large binary takes. Fetches one from Debian; takes a minute.
    Inspect(inspect::InspectArgs),
    /// CPU time and memory of one look at the goroutine table, for up to a million goroutines. A minute; 4 GB of memory.
    Goroutines(goroutines::GoroutinesArgs),
    /// What windows cost leakline, in CPU time, and what stays of many of them. Needs root; two minutes after the build.
    Links(links::LinksArgs),
    /// CPU time of looking whether objects of a running program are alive; a minute after the build.
    Marks(marks::MarksArgs),
    /// CPU time and memory of one judgement over 10,000 lines and 100,000 tracked objects; seconds after the build
    Model,
    /// Which part of what a line allocates stays, by windows and mark bits, against a program that knows. Needs root; half an hour
    Survival(truth::survival::SurvivalArgs),
    /// How much lines allocate, by short looks through windows, against a program that knows. Needs root; half an hour
    Shares(truth::shares::SharesArgs),
    /// What naming an address costs leakline, in thread CPU time, for new and for known addresses
    Symbolize(symbolize::SymbolizeArgs),
}

/// Runs a bench and prints its table on stdout.
pub(crate) fn run(root: &Path, args: &BenchArgs) -> Result<()> {
    match &args.bench {
        Bench::Cost(args) => cost::run(root, args),
        Bench::Overhead(args) => overhead::run(root, args),
        Bench::Books(args) => books::run(root, args),
        Bench::Daemon(args) => daemon::run(root, args),
        Bench::SoakBooks(args) => soak_books::run(root, args),
        Bench::SoakVerdict(args) => soak_verdict::run(root, args),
        Bench::SoakBursts(args) => soak_bursts::run(root, args),
        Bench::Inspect(args) => inspect::run(root, args),
        Bench::Goroutines(args) => goroutines::run(root, args),
        Bench::Links(args) => links::run(root, args),
        Bench::Marks(args) => marks::run(root, args),
        Bench::Model => model::run(root),
        Bench::Survival(args) => truth::survival::run(root, args),
        Bench::Shares(args) => truth::shares::run(root, args),
        Bench::Symbolize(args) => symbolize::run(root, args),
    }
}
