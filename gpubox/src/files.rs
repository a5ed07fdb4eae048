//! Reads the files of a run, whole or not. Nothing that is wrong with them stops it: the run may
//! have been cut off anywhere, and what came before that is worth having.

use crate::ncu;
use crate::results::{Calls, Phase, Results};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;

pub fn read(work: &Path) -> Results {
    let mut files = Files {
        work,
        found: BTreeMap::new(),
    };
    let mut results = Results {
        machine: files.text("machine.tsv").lines().filter_map(pair).collect(),
        phases: files.text("phases.tsv").lines().filter_map(phase).collect(),
        first: files.rows("first.json"),
        calls: files.calls(),
        speed: ["speed.json", "family.json", "planes.json"]
            .map(|name| files.rows(name))
            .into_iter()
            .flatten()
            .collect(),
        torch: files.rows("torch.json"),
        host: files.rows("host.json"),
        ncu: ncu::parse(&files.text("ncu.csv")),
        ..Results::default()
    };
    if results.ncu.is_empty() && files.is_read("ncu.csv") {
        files.note("ncu.csv", "holds no kernel".into());
    }
    results.files = files.found;
    results
}

fn pair(line: &str) -> Option<(String, String)> {
    let (key, value) = line.split_once('\t')?;
    Some((key.trim().into(), value.trim().into()))
}

fn phase(line: &str) -> Option<Phase> {
    let mut fields = line.splitn(4, '\t').map(str::trim);
    let phase = fields.next().filter(|phase| !phase.is_empty())?.into();
    let mut next = || fields.next().unwrap_or_default();
    // A line that ends early is of a phase that ended the run.
    let status = Some(next())
        .filter(|status| !status.is_empty())
        .unwrap_or("unknown")
        .into();
    Some(Phase {
        phase,
        status,
        seconds: next().parse().ok(),
        note: next().into(),
    })
}

struct Files<'a> {
    work: &'a Path,
    found: BTreeMap<String, String>,
}

impl Files<'_> {
    fn note(&mut self, name: &str, what: String) {
        self.found.insert(name.into(), what);
    }

    fn is_read(&self, name: &str) -> bool {
        self.found.get(name).is_some_and(|what| what == "read")
    }

    fn text(&mut self, name: &str) -> String {
        let (text, what) = match std::fs::read(self.work.join(name)) {
            Ok(bytes) => (String::from_utf8_lossy(&bytes).into_owned(), "read".into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (String::new(), "missing".into())
            }
            Err(error) => (String::new(), error.to_string()),
        };
        let empty = what == "read" && text.trim().is_empty();
        self.note(name, if empty { "empty".into() } else { what });
        text
    }

    fn rows<T: DeserializeOwned>(&mut self, name: &str) -> Vec<T> {
        let text = self.text(name);
        if !self.is_read(name) {
            return Vec::new();
        }
        let whole = serde_json::from_str(&text);
        whole.unwrap_or_else(|error| self.salvage(name, &text, &error))
    }

    fn calls(&mut self) -> Option<Calls> {
        let name = "calls.json";
        let text = self.text(name);
        if !self.is_read(name) {
            return None;
        }
        let whole = serde_json::from_str(&text).map(Some);
        whole.unwrap_or_else(|error| {
            Some(Calls {
                differing: self.salvage(name, &text, &error),
                ..Calls::default()
            })
        })
    }

    /// The rows of a file that is not read as a whole.
    fn salvage<T: DeserializeOwned>(
        &mut self,
        name: &str,
        text: &str,
        error: &serde_json::Error,
    ) -> Vec<T> {
        let found = objects(text);
        let rows: Vec<T> = found
            .iter()
            .filter_map(|object| serde_json::from_str(object).ok())
            .collect();
        let cut = if error.is_eof() {
            "truncated"
        } else {
            "damaged"
        };
        let lost = found.len() - rows.len();
        self.note(
            name,
            format!(
                "{cut}: {} rows read, {lost} unreadable ({error})",
                rows.len()
            ),
        );
        rows
    }
}

/// The outermost JSON objects that are complete.
fn objects(text: &str) -> Vec<&str> {
    let (mut open, mut found) = (Vec::new(), Vec::<(usize, usize)>::new());
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => open.push(at),
            b'}' if !quoted => {
                if let Some(start) = open.pop() {
                    found.retain(|&(inner, _)| inner < start);
                    found.push((start, at + 1));
                }
            }
            _ => {}
        }
    }
    found
        .iter()
        .map(|&(start, end)| &text[start..end])
        .collect()
}
