//! A run that never took place: every figure is invented.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const MACHINE: &str = "\
card\tInvented GPU X-1 (80GB)
capability\t9.0
driver\t999.1
cuda\t13.0
sm_clock_mhz\t1980
memory_clock_mhz\t2619
memory_mib\t81559
cpu\tInvented CPU
date\t2001-02-03
commit\tabcdef0
libraries\tstand-ins
torch\t9.9.9
sanitizer\t2099.1
ncu\tnone
colour\tblue
emulated\tno
";

pub const PHASES: &str = "\
probe\tpassed\t1.5\t
tests\tfailed\t120\t1 of 99: planes_of_one
sanitizer\trefused\t2\tno permission
torch\ttimed out\t600\t
ncu\tskipped\t0\tnot installed
";

pub const NCU: &str = "\
==PROF== Connected to process 1
a line of the program, \"with an open quote
\"ID\",\"Process ID\",\"Kernel Name\",\"Block Size\",\"Grid Size\",\"dram__bytes_read.sum\",\"dram__bytes_write.sum\",\"gpu__time_duration.sum\",\"dram__throughput.avg.pct_of_peak_sustained_elapsed\",\"launch__registers_per_thread\"
\"\",\"\",\"\",\"\",\"\",\"Mbyte\",\"Kbyte\",\"nsecond\",\"%\",\"register/thread\"
\"0\",\"1\",\"void in_fwd_warp<float, 4>(const float *, float *)\",\"(256, 1, 1)\",\"(8192, 1, 1)\",\"1,234.5\",\"67\",\"45,600\",\"91.25\",\"40\"
==PROF== Disconnected
\"ID\",\"Kernel Name\",\"Block Size\",\"Grid Size\",\"gpu__time_duration.sum\",\"smsp__issue_active.avg.pct_of_peak_sustained_active\"
\"\",\"\",\"\",\"\",\"usecond\",\"parsec\"
\"0\",\"in_bwd_block\",\"(512, 1, 1)\",\"(64, 1, 1)\",\"7.89\",\"33\"
\"1\",\"cut_off\",\"(512, 1, 1)\",\"(6
";

pub const SWEEP: [usize; 7] = [16, 49, 256, 1024, 4096, 65536, 1 << 20];

const SHAPES: [(&str, &[usize]); 7] = [
    ("instance_norm", &[32, 256, 56, 56]),
    ("instance_norm", &[1, 64, 14, 14]),
    ("instance_norm_affine", &[32, 256, 56, 56]),
    ("instance_norm", &[8, 256, 64, 64]),
    ("group_norm_silu", &[1, 512, 16, 90, 160]),
    ("group_norm_silu", &[1, 128, 20, 256, 256]),
    ("relu_residual", &[1, 128, 64, 64]),
];

/// Ours: figures that differ from row to row, some of them missing.
pub fn speed() -> Vec<Value> {
    let mut rows = Vec::new();
    let mut add = |op: &str, shape: &[usize], dtype: &str, direction: &str, cache: &str| {
        let i = rows.len() as f64;
        let bytes = shape.iter().product::<usize>() as f64 * if dtype == "f32" { 4. } else { 2. };
        let tensors = if direction == "forward" { 2. } else { 3. };
        let ours = tensors * bytes / 2.5e9 + 0.002 + i * 1e-5;
        let composed = (i as usize % 5 != 3).then_some(ours * (3.0 + i / 7.0));
        rows.push(json!({
            "op": op, "shape": shape, "dtype": dtype, "direction": direction, "cache": cache,
            "method": "graph", "tensors": tensors, "ours_ms": ours, "copy_ms": bytes / 1.4e9 + 0.002,
            "composed_ms": composed, "composed_method": "events",
            "gb_per_s": tensors * bytes / ours / 1e6, "unknown": 1,
        }));
    };
    for cache in ["cold", "warm"] {
        for dtype in ["f32", "f16", "bf16"] {
            for direction in ["forward", "backward", "autograd"] {
                SHAPES
                    .iter()
                    .for_each(|(op, shape)| add(op, shape, dtype, direction, cache));
            }
        }
    }
    for plane in SWEEP {
        add(
            "planes",
            &[1, (1 << 24) / plane, plane],
            "bf16",
            "forward",
            "cold",
        );
    }
    rows.push(
        json!({"op": "adain", "shape": [1, 2, 3, 4], "dtype": "f32", "direction": "forward",
        "cache": "cold", "error": "invented: out of memory"}),
    );
    rows
}

/// PyTorch's: two ways for every row of ours but some.
pub fn torch(speed: &[Value]) -> Vec<Value> {
    let mut rows = vec![
        json!({"left_out": 12}),
        json!({"op": "copy", "peer": "clone", "compiled": false, "shape": [1 << 24], "dtype": "bf16",
            "direction": "forward", "cache": "cold", "tensors": 2, "ms": 0.0345, "gb_per_s": 1945.1}),
        json!({"op": "group_norm", "peer": "F.group_norm", "error": "invented: no kernel image"}),
    ];
    for (i, row) in speed
        .iter()
        .enumerate()
        .filter(|(i, row)| i % 9 != 4 && row["error"].is_null())
    {
        for (peer, compiled) in [("F.instance_norm", false), ("F.instance_norm", true)] {
            let slower = if compiled { 0.9 } else { 1.7 } + 0.01 * (i % 40) as f64;
            let mut row = row.clone();
            row["ms"] = (row["ours_ms"].as_f64().unwrap() * slower).into();
            row["gb_per_s"] = (row["gb_per_s"].as_f64().unwrap() / slower).into();
            row["peer"] = peer.into();
            row["compiled"] = compiled.into();
            if row["op"] == "planes" {
                row["op"] = "instance_norm".into();
            }
            if row["direction"] == "autograd" {
                row["direction"] = "forward+backward".into();
            }
            let fields = row.as_object_mut().unwrap();
            for ours in [
                "ours_ms",
                "copy_ms",
                "composed_ms",
                "composed_method",
                "unknown",
            ] {
                fields.remove(ours);
            }
            rows.push(row);
        }
    }
    rows
}

pub fn calls() -> Value {
    let differing = |kernel: &str, ulp: u32| {
        json!({"call": "forward f16 (2,34,4096)", "kernels": [kernel], "dtype": "f16", "result": "y",
            "elements": 278528, "different": 17, "max_ulp": ulp, "max_relative": 0.00049})
    };
    json!({"differing": [differing("in_fwd_block8", 1), differing("in_fwd_block8", 2), differing("in_bwd_warp", 3)],
        "calls": 70, "results": 150, "equal": 147, "recorded": "sm_90, 132 multiprocessors", "here": "sm_90, 114"})
}

/// A folder of its own for a test, with the whole run in `work`.
pub fn run(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("work")).unwrap();
    let speed = speed();
    let first = json!([{"module": "in_fwd.plain f32", "first_ms": 123.4, "second_ms": 0.021},
        {"module": "in_bwd f16", "first_ms": 456.7, "second_ms": 0.022}]);
    let host =
        json!([{"call": "instance_norm", "us": 6.54}, {"call": "forward | raw", "us": 3.21}]);
    let put =
        |name: &str, text: &str| std::fs::write(folder.join("work").join(name), text).unwrap();
    put("machine.tsv", MACHINE);
    put("phases.tsv", PHASES);
    put("ncu.csv", NCU);
    put("first.json", &first.to_string());
    put("host.json", &host.to_string());
    put("calls.json", &calls().to_string());
    put("torch.json", &Value::from(torch(&speed)).to_string());
    let (planes, speed): (Vec<_>, Vec<_>) =
        speed.into_iter().partition(|row| row["op"] == "planes");
    let (family, speed): (Vec<_>, Vec<_>) = speed.into_iter().partition(|row| row["op"] == "adain");
    put("planes.json", &Value::from(planes).to_string());
    put("family.json", &Value::from(family).to_string());
    put("speed.json", &Value::from(speed).to_string());
    folder
}

pub fn gpubox(command: &str, from: &Path, to: &Path) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_gpubox"));
    program
        .arg(command)
        .arg(from)
        .arg(to)
        .output()
        .expect("run gpubox")
}

/// The output of `gpubox summary` for a folder.
pub fn summary(folder: &Path) -> (String, Value) {
    let out = folder.join("out");
    let done = gpubox("summary", &folder.join("work"), &out);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let text = std::fs::read_to_string(out.join("summary.txt")).unwrap();
    assert!(
        text.lines().count() <= 100,
        "{} lines",
        text.lines().count()
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 110),
        "{text}"
    );
    let json = std::fs::read_to_string(out.join("results.json")).unwrap();
    assert_eq!(
        std::fs::read_dir(out).unwrap().count(),
        2,
        "a temporary file is left"
    );
    (text, serde_json::from_str(&json).unwrap())
}
