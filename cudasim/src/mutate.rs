//! Mutants of PTX: one changed instruction, to see whether a test notices.
//!
//! The driver takes part: it notes which lines each test executes, and loads a mutant in place of
//! the module it was made of.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::Path;

/// A change to one line of a kernel.
#[derive(Clone, Debug)]
pub struct Mutant {
    pub kernel: String,
    /// Line of the PTX file, from 1.
    pub line: u32,
    pub before: String,
    pub after: String,
    pub rule: &'static str,
}

/// The rules: text in an instruction, its replacement, and a name. An empty replacement drops the
/// instruction.
const RULES: &[(&str, &str, &str)] = &[
    ("bar.sync", "", "no barrier"),
    ("bar.warp.sync", "", "no barrier"),
    ("barrier.cluster", "", "no barrier"),
    ("st.shared", "", "no store"),
    ("st.global", "", "no store"),
    ("add.f", "sub.f", "add to subtract"),
    ("sub.f", "add.f", "subtract to add"),
    ("mul.f", "add.f", "multiply to add"),
    ("div.rn.f", "mul.f", "divide to multiply"),
    ("neg.f", "mov.f", "no minus"),
    ("fma.rn", "", "no fma"),
    ("setp.lt.s", "setp.le.s", "off by one"),
    ("setp.ge.s", "setp.gt.s", "off by one"),
    ("setp.le.s", "setp.lt.s", "off by one"),
    ("setp.gt.s", "setp.ge.s", "off by one"),
    ("setp.lt.u", "setp.le.u", "off by one"),
    ("setp.ge.u", "setp.gt.u", "off by one"),
    ("setp.le.u", "setp.lt.u", "off by one"),
    ("setp.gt.u", "setp.ge.u", "off by one"),
    ("setp.lt.s", "setp.ge.s", "negated"),
    ("setp.ge.s", "setp.lt.s", "negated"),
    ("setp.le.s", "setp.gt.s", "negated"),
    ("setp.gt.s", "setp.le.s", "negated"),
    ("setp.lt.u", "setp.ge.u", "negated"),
    ("setp.ge.u", "setp.lt.u", "negated"),
    ("setp.le.u", "setp.gt.u", "negated"),
    ("setp.gt.u", "setp.le.u", "negated"),
    // Comparisons of floats are only negated: they do not compare indices with bounds.
    ("setp.lt.f", "setp.ge.f", "negated"),
    ("setp.ge.f", "setp.lt.f", "negated"),
    ("setp.le.f", "setp.gt.f", "negated"),
    ("setp.gt.f", "setp.le.f", "negated"),
    ("setp.eq.", "setp.ne.", "negated"),
    ("setp.ne.", "setp.eq.", "negated"),
    ("setp.neu.", "setp.eq.", "negated"),
    ("and.pred", "or.pred", "and to or"),
    ("or.pred", "and.pred", "or to and"),
    ("shfl.sync", "", "no shuffle"),
    ("selp.", "", "no select"),
    ("add.s", "sub.s", "add to subtract"),
    ("mul.lo.s", "add.s", "index"),
    ("mad.lo.s", "", "index"),
    ("mul.wide", "", "index"),
];

/// Changes of a number: the last operand, one less. One more is often a vector more than there is,
/// which nobody takes.
const COUNTED: [&str; 3] = ["add.s32", "add.s64", "shl.b64"];

impl Mutant {
    /// All mutants of a line of PTX.
    pub fn of_line(kernel: &str, line: u32, text: &str) -> Vec<Mutant> {
        let before = text.trim();
        let opcode = opcode(before);
        let dropped_or =
            |to: &str, from: &str| if to.is_empty() { String::new() } else { before.replacen(from, to, 1) };
        let rules = RULES.iter().filter(|(from, ..)| opcode.starts_with(from));
        let mut changes: Vec<_> = rules.map(|(from, to, rule)| (dropped_or(to, from), *rule)).collect();
        if let (true, Some((head, last))) = (COUNTED.contains(&opcode), before.trim_end_matches(';').rsplit_once(", "))
        {
            let number = last.parse::<i64>();
            changes.extend(number.map(|number| (format!("{head}, {};", number - 1), "another number")));
        }
        let mutant = |(after, rule)| Mutant { kernel: kernel.into(), line, before: before.into(), after, rule };
        changes.into_iter().map(mutant).collect()
    }

    /// The opcode without the type: copies of an instruction for other types are alike.
    pub fn untyped(&self) -> String {
        untyped(&self.before).to_string()
    }

    /// True if a line of PTX has an opcode, whatever its type.
    pub fn is_of(line: &str, opcode: &str) -> bool {
        untyped(line) == opcode
    }

    /// Some, as a file that [`apply`] reads.
    pub fn write(mutants: &[Mutant], file: &Path) -> std::io::Result<()> {
        let lines = |m: &Mutant| format!("{}\n{}\n{}\n{}\n", m.kernel, m.line, m.before, m.after);
        fs::write(file, mutants.iter().map(lines).collect::<String>())
    }
}

fn untyped(instruction: &str) -> &str {
    opcode(instruction).rsplit_once('.').map_or("", |(opcode, _)| opcode)
}

fn opcode(instruction: &str) -> &str {
    instruction.split_whitespace().find(|w| !w.starts_with('@')).unwrap_or_default()
}

/// The text of a module with the mutants that a file describes, as far as they are of this module.
pub fn apply(text: &str, file: &str) -> String {
    let description = fs::read_to_string(file).unwrap_or_default();
    let description: Vec<&str> = description.lines().collect();
    let mut lines: Vec<&str> = text.lines().collect();
    for mutant in description.chunks(4) {
        let &[_, line, before, after] = mutant else { continue };
        let place = line.parse::<usize>().unwrap_or(0).wrapping_sub(1);
        if lines.get(place).is_some_and(|found| found.trim() == before) {
            lines[place] = after;
        }
    }
    lines.join("\n")
}

/// Keeps a module's text, and adds `kernel line` for what was executed of it.
pub fn write_coverage(folder: &str, text: &str, covered: &[(String, u32)]) -> std::io::Result<()> {
    if !text.contains("\t.loc\t") {
        return Ok(()); // compiled without line information: not one of ours
    }
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    // A test may run in several processes.
    let name = format!("{folder}/{:016x}-{}", hasher.finish(), std::process::id());
    fs::create_dir_all(folder)?;
    fs::write(format!("{name}.ptx"), text)?;
    let mut lines: Vec<String> = covered.iter().map(|(kernel, line)| format!("{kernel} {line}\n")).collect();
    lines.sort_unstable();
    lines.dedup();
    let mut file = fs::File::create(format!("{name}.covered"))?;
    lines.iter().try_for_each(|line| file.write_all(line.as_bytes()))
}
