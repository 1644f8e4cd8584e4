//! A deterministic simulation of the core: random trees, a random kernel, a virtual clock, one seed each.
//!
//! `FATED_SIM_SEEDS=N` says how many seeds are run, `FATED_SIM_SEED=S` replays one and prints its trace,
//! `FATED_SIM_NODES=K` bounds its tree.

mod faults;
mod kernel;
mod last;
mod laws;
mod plan;
mod rng;
mod rules;
mod shadow;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use faults::Fault;
use world::{KINDS, Run, Setup};

const SEEDS: u64 = 20_000;
const NODES_MAX: usize = 16;
/// Every so many seeds are run twice and compared, and every so many have a large tree.
const SAMPLE: u64 = 40;

/// The value of a variable that is a number.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn setup(seed: u64) -> Setup {
    let nodes_max = if seed % SAMPLE == 1 { 5 * NODES_MAX } else { NODES_MAX };
    let nodes_max = number("FATED_SIM_NODES").map_or(nodes_max, |nodes| nodes as usize);
    Setup { seed, nodes_max, fault: None, laws_alone: false, trace: false }
}

/// Runs a seed; a broken invariant of the core's own is a failure like any other.
fn attempt(setup: &Setup) -> Run {
    catch_unwind(AssertUnwindSafe(|| world::run(setup))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        Run { outcome: Err(format!("panic: {text}")), trace: Vec::new(), seen: [0; KINDS], steps: 0 }
    })
}

/// The failure again in the smallest tree that shows one, with its trace.
fn explain(failed: &Setup, why: &str) -> String {
    let small = (0..failed.nodes_max).find_map(|nodes_max| {
        let tries = (0..500).map(|offset| Setup { seed: failed.seed + offset, nodes_max, ..failed.clone() });
        tries.into_iter().find(|setup| attempt(setup).outcome.is_err())
    });
    let shown = Setup { trace: true, ..small.unwrap_or_else(|| failed.clone()) };
    let run = attempt(&shown);
    let text = run.outcome.err().unwrap_or_default();
    format!(
        "seed {}: {why}\nsmallest tree found: {text}\n{}\nreplay: FATED_SIM_SEED={} FATED_SIM_NODES={} cargo test --test sim seeds",
        failed.seed,
        run.trace.join("\n"),
        shown.seed,
        shown.nodes_max
    )
}

#[test]
fn seeds() {
    if let Some(seed) = number("FATED_SIM_SEED") {
        let run = attempt(&Setup { trace: true, ..setup(seed) });
        println!("{}", run.trace.join("\n"));
        assert_eq!(run.outcome, Ok(()), "seed {seed}");
        return;
    }
    let count = number("FATED_SIM_SEEDS").unwrap_or(SEEDS);
    let begin = Instant::now();
    let (mut seen, mut steps) = ([0; KINDS], 0);
    for seed in 0..count {
        let setup = setup(seed);
        let run = attempt(&setup);
        if let Err(why) = run.outcome {
            panic!("{}", explain(&setup, &why));
        }
        seen.iter_mut().zip(run.seen).for_each(|(all, one)| *all += one);
        steps += u64::from(run.steps);
        if seed % SAMPLE == 0 {
            let traced = Setup { trace: true, ..setup };
            assert_eq!(attempt(&traced).trace, attempt(&traced).trace, "seed {seed} has two histories");
        }
    }
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    println!("{count} seeds, {steps} steps, {rate:.0} seeds/s; records of each kind: {seen:?}");
    if count >= 1_000 {
        assert!(seen.iter().all(|count| *count > 0), "a kind of record was never seen: {seen:?}");
    }
}

/// The first seeds must show the fault.
fn assert_caught(fault: Fault, laws_alone: bool) {
    const WITHIN: u64 = 400;
    let caught = (0..WITHIN).find_map(|seed| {
        let setup = Setup { seed, nodes_max: NODES_MAX, fault: Some(fault), laws_alone, trace: false };
        attempt(&setup).outcome.err().map(|why| (seed, why))
    });
    match caught {
        Some((seed, why)) => println!("{fault:?}, by the laws alone: {laws_alone}: seed {seed}: {why}"),
        None => panic!("{fault:?} was not caught within {WITHIN} seeds, by the laws alone: {laws_alone}"),
    }
}

#[test]
fn each_planted_fault_is_caught() {
    Fault::ALL.into_iter().for_each(|fault| assert_caught(fault, false));
}

#[test]
fn the_laws_catch_what_they_can_without_the_shadow() {
    Fault::ALL.into_iter().filter(|fault| fault.breaks_a_law()).for_each(|fault| assert_caught(fault, true));
}
