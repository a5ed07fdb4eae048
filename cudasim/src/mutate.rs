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

/// What is replaced by what in an instruction's text, and the rule's name. An empty replacement
/// drops the instruction.
const RULES: [(&str, &str, &str); 22] = [
    ("bar.sync", "", "no barrier"),
    ("bar.warp.sync", "", "no barrier"),
    ("barrier.cluster", "", "no barrier"),
    ("st.shared", "", "no store"),
    ("st.global", "", "no store"),
    ("add.f32", "sub.f32", "add to subtract"),
    ("add.f64", "sub.f64", "add to subtract"),
    ("sub.f32", "add.f32", "subtract to add"),
    ("sub.f64", "add.f64", "subtract to add"),
    ("mul.f32", "add.f32", "multiply to add"),
    ("mul.f64", "add.f64", "multiply to add"),
    ("fma.rn", "", "no fma"),
    ("setp.lt.", "setp.le.", "off by one"),
    ("setp.ge.", "setp.gt.", "off by one"),
    ("setp.le.", "setp.lt.", "off by one"),
    ("setp.gt.", "setp.ge.", "off by one"),
    ("setp.eq.", "setp.ne.", "negated"),
    ("setp.ne.", "setp.eq.", "negated"),
    ("shfl.sync", "", "no shuffle"),
    ("selp.", "", "no select"),
    ("mul.lo.s32", "add.s32", "index"),
    ("mad.lo.s32", "", "index"),
];

/// Changes of a number: the last operand, one more.
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
            changes.extend(number.map(|number| (format!("{head}, {};", number + 1), "another number")));
        }
        let mutant = |(after, rule)| Mutant { kernel: kernel.into(), line, before: before.into(), after, rule };
        changes.into_iter().map(mutant).collect()
    }

    /// The opcode without the type: copies of an instruction for other types are alike.
    pub fn untyped(&self) -> String {
        opcode(&self.before).rsplit_once('.').map_or(String::new(), |(opcode, _)| opcode.to_string())
    }

    /// As a file that [`apply`] reads.
    pub fn write(&self, file: &Path) -> std::io::Result<()> {
        fs::write(file, format!("{}\n{}\n{}\n{}\n", self.kernel, self.line, self.before, self.after))
    }
}

fn opcode(instruction: &str) -> &str {
    instruction.split_whitespace().find(|w| !w.starts_with('@')).unwrap_or_default()
}

/// The text of a module with the mutant that a file describes, if it is one of this module.
pub fn apply(text: &str, file: &str) -> String {
    let description = fs::read_to_string(file).unwrap_or_default();
    let mut parts = description.lines();
    let (Some(_), Some(line), Some(before), after) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return text.to_string();
    };
    let place = line.parse::<usize>().unwrap_or(0).wrapping_sub(1);
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.get(place).is_some_and(|found| found.trim() == before) {
        lines[place] = after.unwrap_or("");
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
    let name = format!("{folder}/{:016x}", hasher.finish());
    fs::create_dir_all(folder)?;
    fs::write(format!("{name}.ptx"), text)?;
    let mut lines: Vec<String> = covered.iter().map(|(kernel, line)| format!("{kernel} {line}\n")).collect();
    lines.sort_unstable();
    lines.dedup();
    let mut file = fs::File::create(format!("{name}.covered"))?;
    lines.iter().try_for_each(|line| file.write_all(line.as_bytes()))
}
