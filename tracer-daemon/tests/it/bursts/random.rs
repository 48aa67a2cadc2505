//! Many windows, in each of which something happens at a random moment: leakline is killed or stopped, a process that holds probes is
//! killed, the target is stopped or killed.

use rustix::process::{Pid, Signal, kill_process};

use super::{Bursting, breakpoints, signal, target, wait_for_allocations, wait_until_clean};
use crate::{
    leakline::can_attach,
    links::{Dice, sleep_us},
    target::wait_until,
};

#[test]
fn no_target_is_harmed_and_nothing_is_left_whatever_happens_in_a_window() {
    if !can_attach("no_target_is_harmed_and_nothing_is_left_whatever_happens_in_a_window") {
        return;
    }
    whatever_happens(30);
}

#[test]
#[ignore = "the long form, for `cargo xtask bench links`"]
fn no_target_is_harmed_and_nothing_is_left_whatever_happens_in_300_windows() {
    whatever_happens(300);
}

/// How often something happened.
#[derive(Debug, Default)]
struct Happened {
    leakline_killed: u32,
    leakline_stopped: u32,
    leakline_interrupted: u32,
    holder_killed: u32,
    target_stopped: u32,
    target_killed: u32,
    /// Of all these, with breakpoints of a window in place.
    in_window: u32,
}

fn whatever_happens(windows: u32) {
    let toolchains = ["go1.27.3", "go1.22.12"];
    let mut dice = Dice(7);
    let mut happened = Happened::default();
    let mut target = target(toolchains[0], &["busy", "2"]);
    let mut leakline = Bursting::attach(target.pid(), &[]);
    for window in 0..windows {
        leakline.wait_for_windows(1);
        // From when it is ordered until it is gone.
        sleep_us(dice.below(60_000));
        let is_open = breakpoints(target.pid()) >= super::IN_WINDOW;
        happened.in_window += u32::from(is_open);
        let again = match dice.below(8) {
            0 | 1 => {
                happened.leakline_killed += 1;
                leakline.running.kill();
                true
            }
            2 | 3 => {
                happened.leakline_stopped += 1;
                leakline.running.signal(Signal::STOP);
                wait_until_clean(target.pid());
                leakline.running.signal(Signal::CONT);
                false
            }
            4 => {
                happened.leakline_interrupted += 1;
                leakline.running.signal(Signal::INT);
                assert_eq!(leakline.running.wait(), 0, "window {window}");
                assert_eq!(breakpoints(target.pid()), 0, "window {window}");
                true
            }
            5 => {
                happened.holder_killed += 1;
                for holder in leakline.holders() {
                    // It may be gone by now.
                    let _gone = kill_process(Pid::from_raw(holder.cast_signed()).unwrap(), Signal::KILL);
                }
                false
            }
            6 => {
                happened.target_stopped += 1;
                signal(target.pid(), Signal::STOP);
                wait_until("the window is closed", || breakpoints(target.pid()) < super::IN_WINDOW);
                signal(target.pid(), Signal::CONT);
                false
            }
            _ => {
                happened.target_killed += 1;
                target.kill();
                assert_eq!(leakline.running.wait(), 0, "window {window}");
                true
            }
        };
        if again {
            leakline.wait_until_gone();
            if target.is_running() {
                wait_until_clean(target.pid());
            } else {
                let toolchain = toolchains[usize::from(window % 2 == 0)];
                target = super::target(toolchain, &["busy", "2"]);
            }
            leakline = Bursting::attach(target.pid(), &[]);
        }
        wait_for_allocations(&mut target);
    }
    leakline.running.signal(Signal::INT);
    leakline.finish();
    assert_eq!(breakpoints(target.pid()), 0);
    wait_for_allocations(&mut target);
    println!("{windows} windows: {happened:?}");
}
