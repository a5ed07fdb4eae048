//! Mutation testing of the kernels: which lines each test executes, then mutants of those lines,
//! each put to the tests that execute it, the fastest first, until one fails.

use crate::suite::{tests, values, End, Test};
use cudasim::mutate::Mutant;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Survivors that change nothing or nothing that matters, and why: `rule | source line | reason`.
const EXPLAINED: &str = "cudasim/survivors.txt";

/// The PTX files that the tests load, each with the tests that execute a line of a kernel.
type Modules = BTreeMap<String, BTreeMap<(String, u32), Vec<usize>>>;

/// A mutant of a line of the source, in one place of every module that has it, and the tests that
/// execute one of them.
struct Trial {
    mutants: Vec<Mutant>,
    source: String,
    tests: BTreeSet<usize>,
}

/// Mutants that differ only in the type or in the copy of an unrolled loop, by module; with the
/// tests that execute them.
type Alike<'a> = BTreeMap<(String, &'static str, String), BTreeMap<usize, Vec<(Mutant, &'a [usize])>>>;

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

    let mut kernels: BTreeMap<&str, Alike> = BTreeMap::new();
    for (module, (text, covered)) in modules.iter().enumerate() {
        let lines: Vec<&str> = text.lines().collect();
        let sources = source_lines(&lines);
        for ((kernel, line), tests) in covered {
            // in_fwd_warp1, in_fwd_warp2 ... are one kernel.
            let family = kernel.trim_end_matches(|c: char| c.is_ascii_digit());
            let place = *line as usize - 1;
            for mutant in Mutant::of_line(kernel, *line, lines.get(place).unwrap_or(&"")) {
                let key = (sources[place].clone(), mutant.rule, mutant.untyped());
                let alike = kernels.entry(family).or_default().entry(key).or_default();
                alike.entry(module).or_default().push((mutant, &tests[..]));
            }
        }
    }
    kernels.retain(|kernel, _| wanted.is_empty() || wanted.iter().any(|w| kernel.contains(w)));
    let mut trials = Vec::new();
    for (kernel, alike) in kernels {
        let mut groups: Vec<_> = alike.into_iter().collect();
        for _ in 0..per_kernel.min(groups.len()) {
            let ((source, ..), by_module) = groups.swap_remove(next(&mut seed) % groups.len());
            let chosen = by_module.into_values().map(|mut alike| alike.swap_remove(next(&mut seed) % alike.len()));
            let (mutants, tests): (Vec<_>, Vec<_>) = chosen.unzip();
            let tests = tests.into_iter().flatten().copied().collect();
            trials.push((kernel, Trial { mutants, source, tests }));
        }
    }
    let explained = fs::read_to_string(EXPLAINED).unwrap_or_default();
    let outcome = |(i, (kernel, trial)): (usize, &(&str, Trial))| {
        let killed = kills(emulator, &work.join(format!("mutant-{i}")), &tests, &times, trial)?;
        let reason = explanation(&explained, trial);
        if !killed {
            let Mutant { kernel, line, before, after, rule } = &trial.mutants[0];
            let (source, reason) = (&trial.source, reason.unwrap_or("?"));
            println!("{kernel}, PTX line {line}: {rule}: `{before}` to `{after}`, from `{source}`: {reason}");
        }
        Ok((kernel.to_string(), if killed { 0 } else { 2 - reason.is_some() as usize }))
    };
    let outcomes: Result<Vec<(String, usize)>, String> = trials.par_iter().enumerate().map(outcome).collect();

    let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    outcomes?.into_iter().for_each(|(kernel, outcome)| counts.entry(kernel).or_default()[outcome] += 1);
    for (kernel, [killed, explained, left]) in &counts {
        let all = killed + explained + left;
        println!("{kernel}: of {all} mutants {killed} killed, {explained} explained, {left} left");
    }
    println!("{:.0?}", began.elapsed());
    Ok(counts.values().all(|[killed, explained, left]| *left == 0 && killed * 10 >= (killed + explained) * 9))
}

/// Runs every test once; the driver writes down what it executes.
fn coverage(emulator: &str, work: &Path, tests: &[Test]) -> Result<(Modules, Vec<Duration>), String> {
    let run = |(i, test): (usize, &Test)| {
        let mut command = test.command();
        command.env("LD_LIBRARY_PATH", emulator).env("PTXSIM_COVERAGE", work.join(i.to_string()));
        match test.run(&mut command, Duration::from_secs(1800))? {
            (End::Passed, time) => Ok(time),
            _ => Err(format!("{} fails without any mutant", test.label())),
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

/// Whether one of the tests that execute the lines fails, or hangs.
fn kills(emulator: &str, file: &Path, tests: &[Test], times: &[Duration], trial: &Trial) -> Result<bool, String> {
    Mutant::write(&trial.mutants, file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut order: Vec<_> = trial.tests.iter().copied().collect();
    order.sort_by_key(|i| times[*i]);
    for i in order {
        let mut command = tests[i].command();
        command.env("LD_LIBRARY_PATH", emulator).env("PTXSIM_MUTANT", file).env("PTXSIM_BUDGET", "20000000");
        let (end, _) = tests[i].run(&mut command, times[i] * 10 + Duration::from_secs(20))?;
        if !matches!(end, End::Passed) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// For each line of PTX, the line of the .cu or .cuh file that it comes from.
fn source_lines(ptx: &[&str]) -> Vec<String> {
    let files: BTreeMap<&str, Vec<String>> = ptx
        .iter()
        .filter_map(|l| l.trim().strip_prefix(".file")?.trim().split_once('"'))
        .map(|(index, path)| {
            let text = fs::read_to_string(path.split('"').next().unwrap_or("")).unwrap_or_default();
            (index.trim(), text.lines().map(|l| l.trim().to_string()).collect())
        })
        .collect();
    let mut current = String::new();
    let source = |line: &&str| {
        if let Some(loc) = line.trim().strip_prefix(".loc") {
            let mut words = loc.split_whitespace();
            let file = words.next().and_then(|file| files.get(file));
            let number = words.next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
            current = file.and_then(|lines| lines.get(number.wrapping_sub(1))).cloned().unwrap_or_default();
        }
        current.clone()
    };
    ptx.iter().map(source).collect()
}

fn explanation<'a>(explained: &'a str, trial: &Trial) -> Option<&'a str> {
    explained.lines().find_map(|line| {
        let mut parts = line.splitn(3, " | ").map(str::trim);
        let (rule, text, reason) = (parts.next()?, parts.next()?, parts.next()?);
        (rule == trial.mutants[0].rule && !text.is_empty() && trial.source.contains(text)).then_some(reason)
    })
}

/// A pseudo-random number: the same seed samples the same mutants.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}
