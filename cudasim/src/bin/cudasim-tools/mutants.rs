//! Mutation testing of the kernels: which lines each test executes, then mutants of those lines,
//! each put to the tests that execute it, the fastest first, until one fails.

use crate::suite::{tests, values, End, Test};
use cudasim::mutate::Mutant;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Survivors that change nothing or nothing that matters, and why: `rule | source line | reason`.
const EXPLAINED: &str = "cudasim/survivors.txt";

/// Every (kernel, line) of one module, with the tests that execute it.
struct Module {
    text: String,
    lines: BTreeMap<(String, u32), Vec<usize>>,
}

pub fn run(emulator: &str, arguments: &[&str]) -> Result<bool, String> {
    let number = |name, default: u64| {
        values(arguments, name)
            .first()
            .map_or(Ok(default), |v| v.parse().map_err(|_| format!("expected a number after {name}, got {v}")))
    };
    let (per_kernel, mut seed) = (number("--per-kernel", 3)? as usize, number("--seed", 1)?);
    let wanted = values(arguments, "--kernel");
    let began = Instant::now();
    let work = PathBuf::from(emulator).join("mutants");
    let _ = fs::remove_dir_all(&work);
    let tests = tests(emulator, &values(arguments, "--test"))?;
    let (modules, times) = coverage(emulator, &work, &tests)?;
    println!("{} tests, their coverage known after {:.0?}", tests.len(), began.elapsed());

    let mut sample: BTreeMap<String, Vec<(usize, Mutant)>> = BTreeMap::new();
    for (m, module) in modules.iter().enumerate() {
        let lines: Vec<&str> = module.text.lines().collect();
        for (kernel, line) in module.lines.keys() {
            if wanted.is_empty() || wanted.iter().any(|w| kernel.contains(w)) {
                let mutants = Mutant::of_line(kernel, *line, lines.get(*line as usize - 1).unwrap_or(&""));
                sample.entry(kernel.clone()).or_default().extend(mutants.into_iter().map(|mutant| (m, mutant)));
            }
        }
    }
    let explained = fs::read_to_string(EXPLAINED).unwrap_or_default();
    let (mut all, mut killed, mut unexplained, mut weak) = (0, 0, Vec::new(), Vec::new());
    for (kernel, mut mutants) in sample {
        shuffle(&mut mutants, &mut seed);
        mutants.truncate(per_kernel);
        let (mut tried, mut good) = (0, 0);
        for (m, mutant) in mutants {
            let module = &modules[m];
            let source = source_line(&module.text, mutant.line);
            tried += 1;
            if kills(emulator, &work, &tests, &times, &module.lines[&(kernel.clone(), mutant.line)], &mutant)? {
                good += 1;
                continue;
            }
            let reason = explanation(&explained, &mutant, &source);
            println!(
                "survivor: {kernel}: {}: `{}` to `{}`, from `{source}`{}",
                mutant.rule,
                mutant.before,
                mutant.after,
                reason.as_ref().map_or(String::new(), |r| format!(": {r}"))
            );
            match reason {
                Some(_) => good += 1,
                None => unexplained.push(mutant),
            }
        }
        println!("{kernel}: {good} of {tried} killed or explained ({:.0?})", began.elapsed());
        (all, killed) = (all + tried, killed + good);
        if good * 10 < tried * 9 {
            weak.push(kernel);
        }
    }
    println!(
        "{killed} of {all} mutants killed or explained, {} left; seed and kernels name them again",
        unexplained.len()
    );
    Ok(unexplained.is_empty() && weak.is_empty())
}

/// Runs every test once; the driver writes down what it executes.
fn coverage(emulator: &str, work: &Path, tests: &[Test]) -> Result<(Vec<Module>, Vec<Duration>), String> {
    let (mut modules, mut times) = (BTreeMap::new(), Vec::new());
    for (i, test) in tests.iter().enumerate() {
        let folder = work.join(i.to_string());
        let mut command = test.command();
        command.env("LD_LIBRARY_PATH", emulator).env("PTXSIM_COVERAGE", &folder);
        let (end, time) = test.run(&mut command, Duration::from_secs(1800))?;
        if !matches!(end, End::Passed) {
            return Err(format!("{} fails without any mutant", test.label()));
        }
        times.push(time);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, read) =
                (entry.path(), |p: &Path| fs::read_to_string(p).map_err(|e| format!("{}: {e}", p.display())));
            if path.extension().is_some_and(|e| e == "covered") {
                let text = read(&path.with_extension("ptx"))?;
                let module = modules.entry(text.clone()).or_insert(Module { text, lines: BTreeMap::new() });
                for line in read(&path)?.lines() {
                    if let Some((kernel, line)) = line.split_once(' ') {
                        let key = (kernel.to_string(), line.parse().unwrap_or(0));
                        module.lines.entry(key).or_default().push(i);
                    }
                }
            }
        }
    }
    Ok((modules.into_values().collect(), times))
}

/// Whether one of the tests that execute the line fails, or hangs.
fn kills(
    emulator: &str, work: &Path, tests: &[Test], times: &[Duration], covering: &[usize], mutant: &Mutant,
) -> Result<bool, String> {
    let file = work.join("mutant");
    mutant.write(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut order = covering.to_vec();
    order.sort_by_key(|i| times[*i]);
    for i in order {
        let mut command = tests[i].command();
        command.env("LD_LIBRARY_PATH", emulator).env("PTXSIM_MUTANT", &file).env("PTXSIM_BUDGET", "20000000");
        let (end, _) = tests[i].run(&mut command, times[i] * 10 + Duration::from_secs(20))?;
        if !matches!(end, End::Passed) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The line of the .cu or .cuh file that a PTX line comes from.
fn source_line(ptx: &str, line: u32) -> String {
    let loc = ptx.lines().take(line as usize).filter_map(|l| l.trim().strip_prefix(".loc")).last().unwrap_or("");
    let mut numbers = loc.split_whitespace().map(|n| n.parse().unwrap_or(0));
    let (file, line) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0usize));
    let declared = ptx.lines().filter_map(|l| l.trim().strip_prefix(".file")?.trim().split_once('"'));
    let path = declared
        .into_iter()
        .find(|(index, _)| index.trim().parse() == Ok(file))
        .map(|(_, path)| path.split('"').next().unwrap_or(""));
    let text = path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    text.lines().nth(line.wrapping_sub(1)).unwrap_or("").trim().to_string()
}

fn explanation(explained: &str, mutant: &Mutant, source: &str) -> Option<String> {
    explained.lines().find_map(|line| {
        let mut parts = line.splitn(3, " | ").map(str::trim);
        let (rule, text, reason) = (parts.next()?, parts.next()?, parts.next()?);
        (rule == mutant.rule && !text.is_empty() && source.contains(text)).then(|| reason.to_string())
    })
}

/// Fisher-Yates with an xorshift: the same seed samples the same mutants.
fn shuffle<T>(items: &mut [T], state: &mut u64) {
    for i in (1..items.len()).rev() {
        *state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ *state >> 29 | 1;
        items.swap(i, (*state >> 8) as usize % (i + 1));
    }
}
