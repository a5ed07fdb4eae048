//! The summary of an invented run, whole, damaged and absent.

use crate::invented::{self, gpubox, run, summary};
use serde_json::{Value, json};

const FILES: [&str; 10] = [
    "machine.tsv",
    "phases.tsv",
    "first.json",
    "calls.json",
    "speed.json",
    "family.json",
    "planes.json",
    "torch.json",
    "host.json",
    "ncu.csv",
];

#[test]
fn a_whole_run() {
    let folder = run("a_whole_run");
    let (text, json) = summary(&folder);
    let line = |start: &str| {
        text.lines()
            .position(|line| line.trim_start().starts_with(start))
    };
    assert_eq!(
        line("Invented GPU X-1 (80GB), compute capability 9.0"),
        Some(0)
    );
    assert!(text.contains("colour: blue"), "an unknown key is shown");
    let failures = line("!!!!").expect("failures");
    assert!(
        failures < 6 && Some(failures) < line("phase"),
        "failures come first"
    );
    for failure in [
        "!!! tests FAILED: 1 of 99",
        "!!! sanitizer REFUSED",
        "!!! torch TIMED OUT",
        "!!! adain 1x2x3x4",
    ] {
        assert!(line(failure).is_some(), "{failure}");
    }
    assert!(text.contains("!!! PyTorch's F.group_norm as group_norm: invented"));
    assert!(line("70 calls with 150 results: 147 equal").is_some());
    assert!(line("2 differ by at most 2 ulp, 0.000490 relative: in_fwd_block8").is_some());
    assert!(
        line(
            "first calls: 2 modules, 580 ms together; worst 457 ms (second call 0.0220): in_bwd f16"
        )
        .is_some()
    );
    assert!(text.contains("instance_norm 6.54;"));
    // The public shapes of every type, in front of the others.
    let public = text
        .lines()
        .filter(|line| line.contains(" 32x256x56x56 ") && line.contains('|'));
    assert_eq!(public.count(), 6);
    assert!(line("instance_norm        1x64x14x14") < line("instance_norm        8x256x64x64"));
    // Everything is in the JSON, what has no known name too.
    assert_eq!(
        json["speed"].as_array().unwrap().len(),
        invented::speed().len()
    );
    assert_eq!(json["speed"][0]["unknown"], 1);
    assert_eq!(json["machine"]["colour"], "blue");
    assert!(FILES.iter().all(|file| json["files"][file] == "read"));
}

#[test]
fn any_number_of_rows_fits() {
    let folder = run("any_number_of_rows_fits");
    let work = folder.join("work");
    let put =
        |name: &str, value: Value| std::fs::write(work.join(name), value.to_string()).unwrap();
    // The rows that count are the last of the file.
    let others = (2..12).flat_map(|i| {
        let mut rows = invented::speed();
        rows.iter_mut()
            .for_each(|row| row["shape"] = json!([i, 3, 5]));
        rows
    });
    let rows: Vec<Value> = others.chain(invented::speed()).collect();
    assert!(rows.len() > 500);
    let named = |name: &str| {
        Value::from(
            (0..500)
                .map(|i| json!({name: format!("{name}\n{i}")}))
                .collect::<Vec<_>>(),
        )
    };
    put("speed.json", rows.into());
    put("host.json", named("call"));
    put("first.json", named("module"));
    let differing: Vec<Value> = (0..200)
        .map(|i| json!({"call": "c", "kernels": [format!("k{i}")]}))
        .collect();
    put("calls.json", json!({"differing": differing}));
    let phases: String = (0..60)
        .map(|i| format!("p{i}\tfailed\t1\t{}\n", "long ".repeat(50)))
        .collect();
    std::fs::write(work.join("phases.tsv"), phases).unwrap();
    let machine: String = (0..60)
        .map(|i| format!("key{i}\t{}\n", "value ".repeat(9)))
        .collect();
    std::fs::write(work.join("machine.tsv"), machine).unwrap();
    let kernels: String = (0..60)
        .map(|i| format!("{i},{}k{i},5\n", "long".repeat(9)))
        .collect();
    std::fs::write(
        work.join("ncu.csv"),
        format!("ID,Kernel Name,gpu__time_duration.sum\n,,us\n{kernels}"),
    )
    .unwrap();
    let (text, _) = summary(&folder);
    for more in ["rows", "failures", "phases", "kernels", "lines"] {
        assert!(
            text.contains(&format!("more {more} in results.json")),
            "{more}: {text}"
        );
    }
    let public = text.lines().filter(|line| line.contains(" 32x256x56x56 "));
    assert_eq!(public.count(), 6, "{text}");
    assert!(
        text.contains("first calls: 500 modules"),
        "nothing is cut off at the end"
    );
}

#[test]
fn cut_off_anywhere() {
    for file in FILES {
        let folder = run(&format!("cut_off_{file}"));
        let path = folder.join("work").join(file);
        let whole = std::fs::read(&path).unwrap();
        for part in 0..12 {
            std::fs::write(&path, &whole[..whole.len() * part / 12]).unwrap();
            let (text, json) = summary(&folder);
            let what = json["files"][file].as_str().unwrap();
            if part == 0 {
                assert_eq!(what, "empty");
            } else if file.ends_with(".json") {
                assert!(what.starts_with("truncated: "), "{what}");
            }
            assert!(
                what == "read" || text.contains(&format!("!!! {file}: ")),
                "{text}"
            );
        }
        std::fs::write(&path, b"\xff\xfe{]}\x00\n\"").unwrap();
        summary(&folder);
        std::fs::remove_file(&path).unwrap();
        let (text, json) = summary(&folder);
        assert_eq!(json["files"][file], "missing");
        assert!(text.contains(&format!("not there: {file}")), "{text}");
    }
}

#[test]
fn whole_rows_of_a_truncated_file_count() {
    let folder = run("whole_rows_of_a_truncated_file_count");
    let work = folder.join("work");
    std::fs::write(
        work.join("host.json"),
        r#"[{"call":"a}\"{","us":1},{"call":"b","us":NaN},{"call":"c"},{"ca"#,
    )
    .unwrap();
    let calls = invented::calls().to_string();
    let cut = calls.replace(r#","equal""#, "");
    std::fs::write(
        work.join("calls.json"),
        &cut[..cut.rfind('}').unwrap() - 40],
    )
    .unwrap();
    let (_, json) = summary(&folder);
    assert_eq!(
        json["host"],
        json!([{"call": "a}\"{", "us": 1.0}, {"call": "c", "us": null}])
    );
    let what = json["files"]["host.json"].as_str().unwrap();
    assert!(what.contains("2 rows read, 1 unreadable"), "{what}");
    assert_eq!(json["calls"]["differing"].as_array().unwrap().len(), 3);
}

#[test]
fn nothing_at_all() {
    let folder = run("nothing_at_all");
    std::fs::remove_dir_all(folder.join("work")).unwrap();
    let (text, json) = summary(&folder);
    assert!(FILES.iter().all(|file| json["files"][file] == "missing"));
    assert!(
        !text.contains("!!!") && text.contains("not there: "),
        "{text}"
    );
}

#[test]
fn the_emulator_is_named_first() {
    let folder = run("the_emulator_is_named_first");
    let machine = invented::MACHINE.replace("emulated\tno", "emulated\tyes");
    std::fs::write(folder.join("work/machine.tsv"), machine).unwrap();
    let (text, _) = summary(&folder);
    assert!(
        text.lines()
            .next()
            .unwrap()
            .contains("NO FIGURE BELOW IS A GPU'S"),
        "{text}"
    );
}

#[test]
fn kernels_with_their_units() {
    let (_, json) = summary(&run("kernels_with_their_units"));
    let kernels = json["ncu"].as_array().unwrap();
    assert_eq!(kernels.len(), 3);
    let near = |value: &Value, wanted: f64| (value.as_f64().unwrap() / wanted - 1.0).abs() < 1e-12;
    assert!(near(&kernels[0]["microseconds"], 45.6));
    assert!(near(&kernels[0]["read_mb"], 1234.5));
    assert!(near(&kernels[0]["write_mb"], 0.067));
    assert!(near(&kernels[0]["dram_percent"], 91.25));
    assert!(near(&kernels[0]["registers"], 40.0));
    assert_eq!(kernels[0]["block"], "(256, 1, 1)");
    assert!(
        kernels[0]["warps_percent"].is_null(),
        "a missing column is no figure"
    );
    assert!(near(&kernels[1]["microseconds"], 7.89));
    assert_eq!(kernels[2]["name"], "cut_off");
    assert!(kernels[2]["microseconds"].is_null());
}

#[test]
fn out_that_cannot_be_written_is_an_error() {
    let folder = run("out_that_cannot_be_written");
    let done = gpubox(
        "summary",
        &folder.join("work"),
        &folder.join("work/machine.tsv"),
    );
    assert!(!done.status.success());
    assert!(String::from_utf8_lossy(&done.stderr).contains("writing"));
}
