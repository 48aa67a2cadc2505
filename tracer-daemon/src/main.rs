//! The program `leakline`: arguments in, exit status out. Everything else is the library's.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use tracer_daemon::{
    attach::{Calibration, Limits, MultiSupport, holding, probe_checks, program_checks},
    cli::{
        AttachArgs, CheckArgs, Cli, Command, DiffArgs, DoctorArgs, EvidenceChoice, FailOn, LookArgs, MeansArgs,
        OutputFormat, PlanArgs, RecordArgs, ReplayArgs, RestoreArgs, RunArgs, SnapshotArgs, SuperviseArgs,
    },
    discover::{Links, NamePattern, Target, open_regular, target_by_pid},
    export::{doctor, plan::Planned, untrusted},
    host,
    inspect::inspect_file,
    model::compare::Rules,
    pipeline::{
        self, Bursts, Killswitch, Means, StartError,
        inventory::Scope,
        snapshot::{Adoption, State},
        stdout::print,
    },
    plan::{ProbePlan, RarePoints},
};
use tracing_subscriber::EnvFilter;

/// The exit status where something leaks (DESIGN 7.1).
const LEAKS: u8 = 10;

fn main() -> ExitCode {
    // Many times a minute: nothing else may happen before.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == holding::COMMAND) {
        return hold_probes();
    }
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("LEAKLINE_LOG").unwrap_or_else(|_unset| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        // They would go to stderr with a panic where stderr is closed.
        .log_internal_errors(false)
        .init();
    // What these start would have them, too, and needs none.
    if !matches!(cli.command, Command::Check(_) | Command::Supervise(_)) {
        host::raise_limits();
    }
    match execute(cli.command) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell if stderr is gone.
            let _unwritten = writeln!(io::stderr(), "leakline: {error:#}");
            ExitCode::from(pipeline::exit_code(&error))
        }
    }
}

/// The exit closes what is held.
fn hold_probes() -> ExitCode {
    match holding::hold() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _unwritten = writeln!(io::stderr(), "leakline: {error}");
            ExitCode::from(2)
        }
    }
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Attach(args) => attach(&args),
        Command::Record(args) => record(args),
        Command::Replay(args) => replay(&args),
        Command::Run(args) => run(args),
        Command::Check(args) => check(*args),
        Command::Supervise(args) => supervise(args),
        Command::Snapshot(args) => snapshot(args),
        Command::Diff(args) => diff(args),
        Command::Restore(args) => restore(&args),
        Command::Memory(args) => look(&args, pipeline::memory::print),
        Command::Goroutines(args) => look(&args, pipeline::goroutines::print),
        Command::Plan(args) => plan(args),
        Command::Doctor(args) => diagnose(&args),
    }
}

fn attach(args: &AttachArgs) -> anyhow::Result<ExitCode> {
    let target = target(args.target.pid, args.target.name.as_deref())?;
    let options = pipeline::attach::Options {
        duration: args.duration,
        interval: args.interval,
        output: args.output,
        pprof: args.pprof.clone(),
        means: means(&args.means, Means::BOOKS_OFTEN),
        fail_on: args.fail_on.map(FailOn::verdict),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    Ok(code(runtime.block_on(pipeline::attach::attach(target, options))?))
}

/// Of what may fail by a verdict.
fn code(fails: bool) -> ExitCode {
    if fails { ExitCode::from(LEAKS) } else { ExitCode::SUCCESS }
}

fn check(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let refused = match args.evidence {
        EvidenceChoice::Auto | EvidenceChoice::Books => None,
        EvidenceChoice::Bursts => Some("a check turns the sampler on and opens no windows: --evidence auto or books"),
        EvidenceChoice::Exact => {
            Some("--evidence exact counts what is allocated, and a check needs to know what grows: books or auto")
        }
    };
    if let Some(message) = refused {
        Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let name = args.name.as_deref().map(NamePattern::new).transpose().map_err(StartError::from)?;
    let options = pipeline::check::Options {
        command: args.command,
        name,
        baseline: args.baseline,
        write_baseline: args.write_baseline,
        duration: args.duration,
        warmup: args.warmup,
        ready_url: args.ready_url,
        ready_log: args.ready_log,
        start_timeout: args.start_timeout,
        load: args.load,
        command_output: args.command_output,
        grace: args.grace,
        evidence: args.evidence,
        adopt_sampler: !args.no_adopt_sampler,
        rules: Rules { fail_on: args.fail_on.verdict(), tolerance: args.tolerance, ..Rules::default() },
        strict: args.strict,
        output: args.output,
        junit: args.junit,
        markdown: args.markdown,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    Ok(code(runtime.block_on(pipeline::check::check(options))?))
}

fn supervise(args: SuperviseArgs) -> anyhow::Result<ExitCode> {
    let options = pipeline::check::supervisor::Options { command: args.command, load: args.load, grace: args.grace };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(pipeline::check::supervisor::supervise(options))?;
    Ok(ExitCode::SUCCESS)
}

fn record(args: RecordArgs) -> anyhow::Result<ExitCode> {
    if args.means.evidence == EvidenceChoice::Exact {
        let message = "what --evidence exact counts cannot be recorded yet; attach prints it";
        Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let target = target(args.target.pid, args.target.name.as_deref())?;
    let means = means(&args.means, Means::BOOKS_OFTEN);
    let options = pipeline::attach::Options {
        duration: args.duration,
        interval: args.interval,
        output: args.output,
        pprof: None,
        means: Means { is_recorded: true, ..means },
        fail_on: None,
    };
    let recording = pipeline::record::Options { file: args.file, max_bytes: args.max_size };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(pipeline::record::record(target, options, recording))?;
    Ok(ExitCode::SUCCESS)
}

fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    pipeline::replay::replay(&args.file, args.output)?;
    Ok(ExitCode::SUCCESS)
}

fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let names = args.name.iter().map(|name| NamePattern::new(name)).collect::<Result<Vec<_>, _>>();
    let names = names.map_err(StartError::from)?;
    let options = pipeline::run::Options {
        pids: args.pid,
        names,
        listen: args.listen,
        pid_label: args.pid_label,
        // As often as metrics are made: many processes are watched.
        means: Means { limits: Limits::of_many(), ..means(&args.means, Duration::from_secs(1)) },
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start")?;
    runtime.block_on(pipeline::run::run(options))?;
    Ok(ExitCode::SUCCESS)
}

fn snapshot(args: SnapshotArgs) -> anyhow::Result<ExitCode> {
    let target = target(args.target.pid, args.target.name.as_deref())?;
    let adoption = Adoption { duration: args.duration, folder: args.state_dir };
    let options = pipeline::snapshot::Options {
        file: args.file,
        state: if args.newest { State::Newest } else { State::Published },
        adopt: args.adopt_sampler.then_some(adoption),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(pipeline::snapshot::snapshot(target, &options))?;
    Ok(ExitCode::SUCCESS)
}

fn diff(args: DiffArgs) -> anyhow::Result<ExitCode> {
    let options = pipeline::diff::Options {
        before: args.before,
        after: args.after,
        output: args.output,
        main_module: args.main_module,
    };
    pipeline::diff::diff(&options)?;
    Ok(ExitCode::SUCCESS)
}

fn restore(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let outcome = pipeline::restore::restore(args.pid, &args.state_dir)?;
    print(&outcome.sentence)?;
    Ok(ExitCode::from(outcome.code))
}

/// One look at a process, printed.
fn look(args: &LookArgs, print: fn(&Target, OutputFormat) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    print(&target(args.target.pid, args.target.name.as_deref())?, args.output)?;
    Ok(ExitCode::SUCCESS)
}

/// What to look with. Hooks on every allocation need no sampler.
fn means(args: &MeansArgs, books_every: Duration) -> Means {
    let MeansArgs { evidence, max_overhead, killswitch, windows_by_perf_events, warm_after, adoption } = args.clone();
    let killswitch = Killswitch::new(killswitch);
    let adopt = adoption.folder();
    if adopt.is_some() && evidence == EvidenceChoice::Exact {
        let message =
            "--adopt-sampler is of use without --evidence exact only, which counts every allocation by itself";
        Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let bursts = Bursts::new(max_overhead).off_by(killswitch.clone());
    let bursts = if windows_by_perf_events { bursts.by_perf_events() } else { bursts };
    Means {
        evidence,
        killswitch,
        limits: Limits::default(),
        adopt,
        bursts: matches!(evidence, EvidenceChoice::Auto | EvidenceChoice::Bursts).then(|| Arc::new(bursts)),
        books_every,
        warm_after: (!warm_after.is_zero()).then_some(warm_after),
        is_recorded: false,
    }
}

fn plan(args: PlanArgs) -> anyhow::Result<ExitCode> {
    let folder = args.file.as_ref().filter(|file| file.is_dir()).cloned();
    if let Some(scope) = folder.map(Scope::Below).or_else(|| args.all.then_some(Scope::Running)) {
        let options = pipeline::inventory::Options { output: args.output, verbose: args.verbose };
        pipeline::inventory::inventory(&scope, options)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (pid, exe, file) = if let Some(path) = args.file {
        let shown = path.display().to_string();
        let file =
            open_regular(&path, Links::Follow).with_context(|| format!("cannot open {}", untrusted::path(&shown)))?;
        (None, shown, file)
    } else {
        let target = target(args.pid, args.name.as_deref())?;
        (Some(target.identity.pid), target.exe_path.display().to_string(), target.exe)
    };
    let exe = untrusted::path(&exe).into_owned();
    let facts = inspect_file(file).map_err(Arc::new).map_err(|source| match pid {
        Some(pid) => StartError::Inspect { pid, exe: exe.clone(), source },
        None => StartError::InspectFile { file: exe.clone(), source },
    })?;
    let plan = ProbePlan::exact(&facts);
    let rare = RarePoints::of(&facts);
    let planned = Planned { pid, pids: &[], exe: &exe, facts: &facts, plan: &plan, rare: &rare };
    print(&match args.output {
        OutputFormat::Text => planned.text(),
        OutputFormat::Json => planned.line().context("cannot write the plan as JSON")?,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn diagnose(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut checks = host::examine();
    let multi = MultiSupport::of_this_kernel().context("it cannot be tried now what this kernel can do")?;
    checks.extend(program_checks(multi.mechanism()));
    checks.extend(probe_checks(multi));
    let calibration = Calibration::begin(multi.mechanism());
    let calibration = calibration.inspect_err(|error| tracing::debug!(%error, "what a hit costs is not known"));
    let costs = calibration.ok().map(|calibration| calibration.costs());
    print(&match args.output {
        OutputFormat::Text => doctor::text(&checks, costs.as_ref()),
        OutputFormat::Json => doctor::line(&checks, costs.as_ref()).context("cannot write the checks as JSON")?,
    })?;
    Ok(if doctor::can_look(&checks) { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn target(pid: Option<u32>, name: Option<&str>) -> Result<Target, StartError> {
    match (pid, name) {
        (Some(pid), _) => Ok(target_by_pid(pid)?),
        (None, name) => Ok(NamePattern::new(name.unwrap_or_default())?.only_target()??),
    }
}
