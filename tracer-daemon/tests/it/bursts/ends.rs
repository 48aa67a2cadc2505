//! What happens to the target while a window is open in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::Signal;

use super::{
    Bursting, breakpoints, copy, refusal, signal, target, unruly, wait_for_allocations, wait_for_window,
    wait_until_clean, windows,
};
use crate::{
    leakline::can_attach,
    target::{Target, wait_until},
};

#[test]
fn a_target_that_ends_in_a_window_gives_a_report() {
    if !can_attach("a_target_that_ends_in_a_window_gives_a_report") {
        return;
    }
    for (toolchain, end) in
        ["go1.22.12", "go1.27.3"].into_iter().flat_map(|go| ["exit", "kill", "exec", "sleep"].map(|end| (go, end)))
    {
        let mut target = target(toolchain, &["busy", "2"]);
        let leakline = Bursting::attach(target.pid(), &[]);
        wait_for_window(target.pid());
        match end {
            "kill" => target.kill(),
            command => target.say(command),
        }
        let document = leakline.finish();
        assert_eq!(document["process"]["ended"], true, "{end}");
        assert_eq!(document["evidence"]["used"][0], "books", "{end}");
        match end {
            "exec" => {
                assert!(target.line().contains("ready"));
                wait_until_clean(target.pid());
                wait_for_allocations(&mut target);
            }
            "sleep" => assert!(target.is_running()),
            _ => assert_eq!(target.wait().success(), end == "exit"),
        }
    }
}

#[test]
fn a_target_that_runs_out_of_memory_in_a_window_gives_a_report() {
    const TEST: &str = "a_target_that_runs_out_of_memory_in_a_window_gives_a_report";
    if !can_attach(TEST) {
        return;
    }
    let Some(cgroup) =
        cgroup(TEST, &[("memory.max", "/sys/fs/cgroup"), ("memory.limit_in_bytes", "/sys/fs/cgroup/memory")])
    else {
        return;
    };
    let mut target = target("go1.27.3", &["busy", "2"]);
    cgroup.take(target.pid());
    fs::write(&cgroup.file, "67108864").unwrap();
    let leakline = Bursting::attach(target.pid(), &[]);
    wait_for_window(target.pid());
    target.say("grow");
    let document = leakline.finish();
    assert_eq!(document["process"]["ended"], true);
    assert!(!target.wait().success());
}

#[test]
fn windows_close_in_a_target_that_stands_still_and_go_on_when_it_does() {
    const TEST: &str = "windows_close_in_a_target_that_stands_still_and_go_on_when_it_does";
    if !can_attach(TEST) {
        return;
    }
    stands_still(|pid| signal(pid, Signal::STOP), |pid| signal(pid, Signal::CONT));
    let freezers = [
        ("cgroup.freeze", "/sys/fs/cgroup"),
        ("cgroup.freeze", "/sys/fs/cgroup/unified"),
        ("freezer.state", "/sys/fs/cgroup/freezer"),
    ];
    for freezer in freezers {
        // Some hosts have one of them, some another.
        let Ok(cgroup) = Cgroup::make(freezer.0, Path::new(freezer.1)) else { continue };
        let (frozen, thawed) = if freezer.0 == "freezer.state" { ("FROZEN", "THAWED") } else { ("1", "0") };
        stands_still(
            |pid| {
                cgroup.take(pid);
                fs::write(&cgroup.file, frozen).unwrap();
            },
            |_| fs::write(&cgroup.file, thawed).unwrap(),
        );
        println!("frozen by {}", cgroup.file.display());
    }
}

fn stands_still(stop: impl Fn(u32), go_on: impl Fn(u32)) {
    let mut target = target("go1.27.3", &["busy", "2"]);
    let leakline = Bursting::attach(target.pid(), &[]);
    wait_for_window(target.pid());
    stop(target.pid());
    wait_until("the window is closed", || breakpoints(target.pid()) < super::IN_WINDOW);
    go_on(target.pid());
    wait_for_allocations(&mut target);
    wait_for_window(target.pid());
    leakline.running.signal(Signal::INT);
    let document = leakline.finish();
    assert_eq!(document["process"]["ended"], false);
    assert!(windows(&document) >= 1);
    assert_eq!(breakpoints(target.pid()), 0);
    wait_for_allocations(&mut target);
}

#[test]
fn a_file_takes_all_probes_away_and_windows_go_on_when_it_is_gone() {
    if !can_attach("a_file_takes_all_probes_away_and_windows_go_on_when_it_is_gone") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let killswitch = folder.path().join("off");
    let mut target = target("go1.27.3", &["busy", "2"]);
    let leakline = Bursting::attach(target.pid(), &["--killswitch", killswitch.to_str().unwrap()]);
    wait_for_window(target.pid());
    fs::write(&killswitch, "").unwrap();
    // That of collections, too, which stays as long as leakline does.
    wait_until_clean(target.pid());
    for _ in 0..100 {
        wait_for_allocations(&mut target);
        assert_eq!(breakpoints(target.pid()), 0);
    }
    fs::remove_file(&killswitch).unwrap();
    wait_for_window(target.pid());
    fs::write(&killswitch, "").unwrap();
    wait_until_clean(target.pid());
    leakline.running.signal(Signal::INT);
    let document = leakline.finish();
    assert!(windows(&document) >= 2);
    let why = refusal(&document, "killswitch").unwrap();
    assert!(why.contains(&format!("`rm {}`", killswitch.display())), "{why}");
}

#[test]
fn windows_go_on_in_a_program_that_was_replaced_on_disk() {
    if !can_attach("windows_go_on_in_a_program_that_was_replaced_on_disk") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("program");
    // Deleted; or another program under the name, as `go build -o` makes it.
    for replacement in [None, Some(unruly("go1.22.12"))] {
        copy(&unruly("go1.27.3"), &file);
        let mut target = Target::start(&file, &["busy", "2"]);
        let mut leakline = Bursting::attach(target.pid(), &[]);
        leakline.wait_for_windows(2);
        fs::remove_file(&file).unwrap();
        if let Some(other) = replacement {
            copy(&other, &file);
        }
        leakline.wait_for_windows(10);
        let document = {
            leakline.running.signal(Signal::INT);
            leakline.finish()
        };
        assert_eq!(document["process"]["ended"], false);
        assert!(windows(&document) >= 9, "{}", document["cost"]);
        assert_eq!(document["sites"][0]["function"], "main.(*ring).keep");
        assert_eq!(breakpoints(target.pid()), 0);
        wait_for_allocations(&mut target);
        // And from the beginning.
        let mut leakline = Bursting::attach(target.pid(), &[]);
        leakline.running.wait_for("is not what the process runs");
        leakline.wait_for_windows(3);
        leakline.running.signal(Signal::INT);
        assert!(windows(&leakline.finish()) >= 2);
        assert_eq!(breakpoints(target.pid()), 0);
    }
}

#[test]
fn of_two_processes_of_one_file_only_the_target_is_touched() {
    if !can_attach("of_two_processes_of_one_file_only_the_target_is_touched") {
        return;
    }
    let mut target = target("go1.27.3", &["busy", "1"]);
    let mut other = super::target("go1.27.3", &["deep", "1"]);
    let leakline = Bursting::attach(target.pid(), &[]);
    for _ in 0..12 {
        // While a window is open in the target, or a moment behind it.
        wait_for_window(target.pid());
        assert_eq!(breakpoints(other.pid()), 0, "the other process has breakpoints");
    }
    leakline.running.signal(Signal::INT);
    let document = leakline.finish();
    let text = document["sites"].to_string();
    assert!(text.contains("main.busy") && !text.contains("main.descend"), "{text}");
    wait_for_allocations(&mut target);
    wait_for_allocations(&mut other);
}

/// A cgroup of our own.
struct Cgroup {
    folder: PathBuf,
    /// The file that is there for something.
    file: PathBuf,
}

impl Cgroup {
    fn make(file: &str, below: &Path) -> io::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = below.join(format!("leakline-test-{}-{number}", std::process::id()));
        fs::create_dir(&folder)?;
        let made = Self { file: folder.join(file), folder };
        if made.file.exists() { Ok(made) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn take(&self, pid: u32) {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        wait_until("the cgroup is empty", || fs::remove_dir(&self.folder).is_ok());
    }
}

/// The first that can be had. Where none can be, says so; the proof is what the kernel answers.
fn cgroup(test: &str, wanted: &[(&str, &str)]) -> Option<Cgroup> {
    let mut answers = Vec::new();
    for (file, below) in wanted {
        match Cgroup::make(file, Path::new(below)) {
            Ok(made) => return Some(made),
            Err(error) => answers.push(format!("{below}/…/{file}: {error}")),
        }
    }
    println!("SKIPPED: {test}: {}", answers.join("; "));
    None
}
