//! Mutation testing of the kernels: which lines each test executes, then mutants of those lines,
//! each put to the tests that execute it, the fastest first, until one fails.

use crate::suite::{End, Test, tests, values};
use cudasim::mutate::Mutant;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Survivors that change nothing, or nothing that matters, and why:
/// `kernel | rule | source line | reason`, the kernel and the line in part, the rule with the number of
/// the instruction on the line or for all of them.
const EXPLAINED: &str = "cudasim/survivors.txt";

/// The PTX files that the tests load, each with the tests that execute a line of a kernel.
type Modules = BTreeMap<String, BTreeMap<(String, u32), Vec<usize>>>;

/// A mutant of a line of the source, wherever the compiler has put it, and the tests that execute it
/// somewhere.
#[derive(Default)]
struct Trial {
    mutants: Vec<Mutant>,
    tests: BTreeSet<usize>,
}

/// A line of the source, the rule, the instruction without its type, and which of those on the line:
/// copies of the line, in other modules, unrolled or inlined, change together.
type Change = (String, &'static str, String, usize);

pub fn run(emulator: &str, arguments: &[&str]) -> Result<bool, String> {
    let number = |name, default: u64| {
        let wrong = |v: &str| format!("expected a number after {name}, got {v}");
        values(arguments, name).first().map_or(Ok(default), |v| v.parse().map_err(|_| wrong(v)))
    };
    let (per_kernel, mut seed) = (number("--per-kernel", 20)? as usize, number("--seed", 1)?);
    let (wanted, began) = (values(arguments, "--kernel"), Instant::now());
    let work = PathBuf::from(emulator).join("mutants");
    let _ = fs::remove_dir_all(&work);
    let tests = tests(emulator, &values(arguments, "--test"))?;
    let (modules, times) = coverage(emulator, &work, &tests)?;
    println!("{} tests, their coverage known after {:.0?}", tests.len(), began.elapsed());

    let mut kernels: BTreeMap<&str, BTreeMap<Change, Trial>> = BTreeMap::new();
    for (text, covered) in &modules {
        let lines: Vec<&str> = text.lines().collect();
        let sources = source_lines(&lines);
        for ((kernel, line), tests) in covered {
            // in_fwd_warp1, in_fwd_warp2 ... are one kernel.
            let family = kernel.trim_end_matches(|c: char| c.is_ascii_digit());
            let place = *line as usize - 1;
            let (source, run) = &sources[place];
            for mutant in Mutant::of_line(kernel, *line, lines[place]) {
                let opcode = mutant.untyped();
                let before = lines[run - 1..place].iter();
                let nth = before.filter(|line| Mutant::is_of(line, &opcode)).count();
                let change = (source.clone(), mutant.rule, opcode, nth);
                let trial = kernels.entry(family).or_default().entry(change).or_default();
                trial.mutants.push(mutant);
                trial.tests.extend(tests);
            }
        }
    }
    kernels.retain(|kernel, _| wanted.is_empty() || wanted.iter().any(|w| kernel.contains(w)));
    let explained = fs::read_to_string(EXPLAINED).map_err(|e| format!("{EXPLAINED}: {e}"))?;
    let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut trials = Vec::new();
    for (kernel, changes) in kernels {
        counts.entry(kernel).or_default().all = changes.len();
        let mut left: Vec<_> = changes.into_iter().collect();
        for _ in 0..per_kernel.min(left.len()) {
            trials.push((kernel, left.swap_remove(next(&mut seed) % left.len())));
        }
    }
    let outcome = |(i, (kernel, (change, trial))): (usize, &(&str, (Change, Trial)))| {
        if kills(emulator, &work.join(format!("mutant-{i}")), &tests, &times, trial)? {
            return Ok(Outcome::Killed);
        }
        let why = explanation(&explained, kernel, change);
        let Mutant { line, before, after, .. } = &trial.mutants[0];
        let (source, rule, _, nth) = change;
        let end = why.unwrap_or("NOT EXPLAINED");
        println!("{kernel} | {rule} {nth} | {source} | PTX line {line}: `{before}` to `{after}` | {end}");
        Ok(if why.is_some() { Outcome::Explained } else { Outcome::Survived })
    };
    let outcomes: Result<Vec<Outcome>, String> = trials.par_iter().enumerate().map(outcome).collect();
    for ((kernel, _), outcome) in trials.iter().zip(outcomes?) {
        let count = counts.entry(kernel).or_default();
        count.tried += 1;
        count.killed += usize::from(outcome == Outcome::Killed);
        count.explained += usize::from(outcome == Outcome::Explained);
    }
    let line = |(kernel, count): (&&str, &Counts)| println!("{kernel}: {count}");
    counts.iter().for_each(line);
    println!("{:.0?}", began.elapsed());
    Ok(counts.values().all(|count| count.killed + count.explained == count.tried))
}

#[derive(PartialEq)]
enum Outcome {
    Killed,
    /// No test notices, and the list says why.
    Explained,
    Survived,
}

/// The outcomes of the mutants of a kernel.
#[derive(Default)]
struct Counts {
    all: usize,
    tried: usize,
    killed: usize,
    explained: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { all, tried, killed, explained } = self;
        let share = 100. * *killed as f64 / (*tried).max(1) as f64;
        write!(f, "{all} mutants, {tried} tried, {killed} killed ({share:.0} %), {explained} of the others explained")
    }
}

/// Runs every test once; the driver writes down what it executes.
fn coverage(emulator: &str, work: &Path, tests: &[Test]) -> Result<(Modules, Vec<Duration>), String> {
    let run = |(i, test): (usize, &Test)| {
        let mut command = test.command();
        command.env("LD_LIBRARY_PATH", emulator).env("CUDASIM_COVERAGE", work.join(i.to_string()));
        match test.run(&mut command, Duration::from_secs(1800))? {
            (End::Passed, time) => Ok(time),
            _ => Err(format!("{} fails without any mutant", test.name)),
        }
    };
    let times: Result<Vec<Duration>, String> = tests.par_iter().enumerate().map(run).collect();
    let read = |path: &Path| fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
    let mut modules = Modules::new();
    for i in 0..tests.len() {
        for entry in fs::read_dir(work.join(i.to_string())).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|e| e != "covered") {
                continue;
            }
            let module = modules.entry(read(&path.with_extension("ptx"))?).or_default();
            for (kernel, line) in read(&path)?.lines().filter_map(|line| line.split_once(' ')) {
                module.entry((kernel.to_string(), line.parse().unwrap_or(1))).or_default().push(i);
            }
        }
    }
    Ok((modules, times?))
}

/// True if one of the tests that execute the lines fails or hangs.
fn kills(emulator: &str, file: &Path, tests: &[Test], times: &[Duration], trial: &Trial) -> Result<bool, String> {
    Mutant::write(&trial.mutants, file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut order: Vec<_> = trial.tests.iter().copied().collect();
    order.sort_by_key(|i| times[*i]);
    for i in order {
        let mut command = tests[i].command();
        command.env("LD_LIBRARY_PATH", emulator).env("CUDASIM_MUTANT", file).env("CUDASIM_BUDGET", "20000000");
        let (end, _) = tests[i].run(&mut command, times[i] * 10 + Duration::from_secs(20))?;
        if !matches!(end, End::Passed) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// For each line of PTX, the line of the source or header that it comes from, and the line of PTX, from
/// 1, after which all are from there.
fn source_lines(ptx: &[&str]) -> Vec<(String, usize)> {
    let files: BTreeMap<&str, Vec<String>> = ptx
        .iter()
        .filter_map(|l| l.trim().strip_prefix(".file")?.trim().split_once('"'))
        .map(|(index, path)| {
            let text = fs::read_to_string(path.split('"').next().unwrap_or("")).unwrap_or_default();
            (index.trim(), text.lines().map(|l| l.trim().to_string()).collect())
        })
        .collect();
    let mut current = (String::new(), 1);
    let source = |(i, line): (usize, &&str)| {
        if let Some(loc) = line.trim().strip_prefix(".loc") {
            let mut words = loc.split_whitespace();
            let file = words.next().and_then(|file| files.get(file));
            let number = words.next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
            // Line 0 is nvcc's way to say that it is not of one line; most of it is of the last.
            if number > 0 {
                current = (file.and_then(|lines| lines.get(number - 1)).cloned().unwrap_or_default(), i + 1);
            }
        }
        current.clone()
    };
    ptx.iter().enumerate().map(source).collect()
}

/// The reason on the list for which a change survives.
fn explanation<'a>(explained: &'a str, kernel: &str, (source, rule, _, nth): &Change) -> Option<&'a str> {
    explained.lines().find_map(|line| {
        let mut parts = line.splitn(4, " | ").map(str::trim);
        let (of, by, text, why) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_it = *rule == by || format!("{rule} {nth}") == by;
        let is_of = of.strip_suffix('*').map_or(kernel == of, |start| kernel.starts_with(start));
        (is_of && is_it && source.contains(text) && !text.is_empty()).then_some(why)
    })
}

/// A pseudo-random number: the same seed samples the same mutants.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}
