//! Many simulated runs at once.

#[cfg(test)]
use std::thread;

use rand::{Rng as _, rngs::SmallRng};

/// Runs with seeds from 0 on, on all processors; the sum of what each gives.
pub(in crate::model) fn count<const N: usize>(runs: u64, run: impl Fn(u64) -> [u32; N] + Sync) -> [u32; N] {
    let workers = thread::available_parallelism().map_or(2, usize::from) as u64;
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || {
                    let mut sum = [0; N];
                    for seed in (worker..runs).step_by(workers as usize) {
                        sum.iter_mut().zip(run(seed)).for_each(|(sum, one)| *sum += one);
                    }
                    sum
                })
            })
            .collect();
        threads.into_iter().fold([0; N], |mut sum, thread| {
            sum.iter_mut().zip(thread.join().unwrap()).for_each(|(sum, one)| *sum += one);
            sum
        })
    })
}

/// A number of any magnitude between these, each equally likely.
pub(in crate::model) fn pick(random: &mut SmallRng, low: f64, high: f64) -> f64 {
    (random.random_range(low.ln()..high.ln())).exp()
}

/// What is given for each number below this, in their order, on all processors.
pub(in crate::model) fn each<T: Send>(number: usize, run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let workers = thread::available_parallelism().map_or(2, usize::from);
    let mut found: Vec<(usize, T)> = thread::scope(|scope| {
        let run = &run;
        let work =
            |worker: usize| (worker..number).step_by(workers).map(|index| (index, run(index))).collect::<Vec<_>>();
        let threads: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, found)| found).collect()
}
