//! The wrappers around state dicts in files.

use std::collections::BTreeMap;

/// The keys of a training checkpoint that hold its state dict; the entries beside them (optimizer,
/// epoch) are ignored. `params_ema` and `params` are BasicSR's, the average first.
const WRAPPERS: [&str; 5] = [
    "state_dict.",
    "model_state_dict.",
    "params_ema.",
    "params.",
    "network_weights.",
];

/// The prefix that `DataParallel` gives every name.
const MODULE: &str = "module.";

/// Removes the key of a dictionary around a state dict, and the `module.` of a network that was
/// trained in parallel, also where several networks lie side by side:
/// `generator.module.conv.weight` becomes `generator.conv.weight`.
pub(super) fn unwrap<T>(mut entries: BTreeMap<String, T>) -> BTreeMap<String, T> {
    let wrapper = |wrapper: &&&str| entries.keys().any(|name| name.starts_with(**wrapper));
    if let Some(wrapper) = WRAPPERS.iter().find(wrapper) {
        entries = strip(entries, wrapper);
    }
    if entries.keys().all(|name| name.starts_with(MODULE)) {
        return strip(entries, MODULE);
    }
    let of_network = |name: &str| {
        name.split_once('.')
            .map(|(_, rest)| rest.starts_with(MODULE))
    };
    if entries.keys().all(|name| of_network(name) == Some(true)) {
        let short = |name: String| name.replacen(".module.", ".", 1);
        return entries.into_iter().map(|(n, t)| (short(n), t)).collect();
    }
    entries
}

fn strip<T>(entries: BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
    let short = |(name, tensor): (String, T)| Some((name.strip_prefix(prefix)?.into(), tensor));
    entries.into_iter().filter_map(short).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str], expected: &[&str]) {
        let entries = names.iter().map(|name| (name.to_string(), ()));
        let names = unwrap(entries.collect()).into_keys();
        assert_eq!(names.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn wrappers_are_taken_off() {
        check(&["a.weight", "b"], &["a.weight", "b"]);
        check(&["model.1.weight"], &["model.1.weight"]);
        check(&["module.a", "module.b.c"], &["a", "b.c"]);
        check(&["module.a", "b"], &["b", "module.a"]);
        check(&["state_dict.a", "optimizer.0"], &["a"]);
        check(&["state_dict.module.a.module.b"], &["a.module.b"]);
        check(&["params.a", "params_ema.a", "params_ema.b"], &["a", "b"]);
        check(
            &["generator.module.a", "style.module.a"],
            &["generator.a", "style.a"],
        );
    }
}
