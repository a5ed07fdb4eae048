//! Every instruction form against results computed here by other means: plain Rust on one lane's
//! numbers, i128 or f64 arithmetic, or numbers from the manual.

mod convert;
mod float;
mod integer;
mod memory;

use cudasim::{Launch, Options, Order, Simulator};

/// Runs `body` in one warp. Each lane finds its three words in `%a`, `%b`, `%c` (64 bits; `%x`, `%y`,
/// `%z` are the lower halves, `%f`, `%g`, `%h` those as f32) and leaves one in `%d`.
fn run(body: &str, inputs: &[[u64; 3]; 32]) -> Result<[u64; 32], String> {
    run_with("", body, inputs)
}

/// With functions that the body calls.
fn run_with(functions: &str, body: &str, inputs: &[[u64; 3]; 32]) -> Result<[u64; 32], String> {
    let ptx = format!(
        ".version 9.0\n.target sm_90\n.address_size 64\n{functions}.visible .entry k(.param .u64 p)\n{{\n\
         .reg .b64 %a, %b, %c, %d, %p, %q; .reg .b32 %x, %y, %z, %w, %v, %t, %u; .reg .f32 %f, %g, %h; .reg .pred %r, %s;\n\
         .reg .b16 %i, %j, %k, %l; .reg .f64 %m, %n, %o;\n\
         ld.param.u64 %p, [p]; cvta.to.global.u64 %p, %p; mov.u32 %t, %tid.x; mul.wide.u32 %q, %t, 32; add.s64 %p, %p, %q;\n\
         ld.global.v2.u64 {{%a, %b}}, [%p]; ld.global.u64 %c, [%p+16]; mov.u64 %d, 0;\n\
         cvt.u32.u64 %x, %a; cvt.u32.u64 %y, %b; cvt.u32.u64 %z, %c; mov.b32 %f, %x; mov.b32 %g, %y; mov.b32 %h, %z;\n\
         cvt.u16.u64 %i, %a; cvt.u16.u64 %j, %b; cvt.u16.u64 %k, %c; mov.b64 %m, %a; mov.b64 %n, %b; mov.b64 %o, %c;\n\
         {body}\nst.global.u64 [%p+24], %d;\nret;\n}}\n"
    );
    let mut results = None;
    for order in Order::ALL {
        let mut simulator = Simulator::default();
        let module = simulator.load(&ptx)?;
        let kernel = simulator.kernel(module, "k")?;
        let memory = simulator.memory.allocate(32 * 32);
        let bytes: Vec<u8> = inputs.iter().flat_map(|[a, b, c]| [*a, *b, *c, 0]).flat_map(u64::to_le_bytes).collect();
        simulator.memory.write(memory, &bytes)?;
        let options = Options { order, ..Options::default() };
        let launch = Launch::new([1, 1, 1], [32, 1, 1]);
        let outcome = simulator.launch(module, &kernel, &launch, &options, memory.to_le_bytes().to_vec());
        let reports = outcome.map_err(|r| r.to_string())?.reports;
        assert_eq!(reports, [], "{body}");
        let mut out = vec![0; 32 * 32];
        simulator.memory.read(memory, &mut out)?;
        let word = |i: usize| u64::from_le_bytes(out[32 * i + 24..][..8].try_into().expect("8 bytes"));
        let found: [u64; 32] = std::array::from_fn(word);
        assert_eq!(*results.get_or_insert(found), found, "{body}: the schedules differ");
    }
    results.ok_or_else(|| "no schedule".to_string())
}

/// Words with all kinds of bits: edges of every width, then a pseudo-random sequence.
fn words(seed: u64) -> [[u64; 3]; 32] {
    const EDGES: [u64; 12] =
        [0, 1, 2, 31, 0x7fff, 0x8000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, i64::MAX as u64, 1 << 63, u64::MAX];
    let mut state = seed;
    let mut next = |i: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let random = (state >> 17) ^ state << 23;
        [random, EDGES[(state >> 40) as usize % 12]][(i < 20) as usize]
    };
    std::array::from_fn(|i| std::array::from_fn(|_| next(i)))
}

/// Floats: zeros, subnormals, infinities, NaN, numbers around 1, large and tiny ones.
fn floats(seed: u64) -> [[u64; 3]; 32] {
    let edges = [
        0f32,
        -0.,
        1.,
        -1.5,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        1e-40,
        -3e-39,
        f32::MAX,
        f32::MIN_POSITIVE,
        0.1,
    ];
    let mut out = words(seed);
    for (i, word) in out.iter_mut().flatten().enumerate() {
        let bits = (*word >> 7) as u32;
        let near_one = f32::from_bits(bits & 0x807f_ffff | (120 + (bits >> 8 & 15)) << 23);
        *word = if i % 3 == 0 { edges[(*word >> 9) as usize % 12] } else { near_one }.to_bits() as u64;
    }
    out
}

fn doubles(seed: u64) -> [[u64; 3]; 32] {
    let mut out = floats(seed);
    for word in out.iter_mut().flatten() {
        let wide = f32::from_bits(*word as u32) as f64;
        *word = if wide.is_finite() { wide * (1. + 3e-13 * (*word % 977) as f64) } else { wide }.to_bits();
    }
    out
}

/// Compares with a function of the three words; NaNs are equal to each other.
#[track_caller]
fn check(body: &str, inputs: [[u64; 3]; 32], expected: impl Fn(u64, u64, u64) -> u64, nan: fn(u64) -> bool) {
    let found = run(body, &inputs).unwrap_or_else(|e| panic!("{body}: {e}"));
    for ([a, b, c], found) in inputs.into_iter().zip(found) {
        let want = expected(a, b, c);
        assert!(
            found == want || nan(found) && nan(want),
            "{body}: {a:#x} {b:#x} {c:#x} give {found:#x}, not {want:#x}"
        );
    }
}

#[track_caller]
fn integer(body: &str, expected: impl Fn(u64, u64, u64) -> u64) {
    for seed in 1..6 {
        check(body, words(seed), &expected, |_| false);
    }
}

#[track_caller]
fn single(instruction: &str, expected: impl Fn(f32, f32, f32) -> f32) {
    let of = |w: u64| f32::from_bits(w as u32);
    for seed in 1..6 {
        let wanted = |a, b, c| expected(of(a), of(b), of(c)).to_bits() as u64;
        check(&format!("{instruction}; mov.b32 %w, %f; cvt.u64.u32 %d, %w;"), floats(seed), wanted, |w| {
            f32::from_bits(w as u32).is_nan()
        });
    }
}

#[track_caller]
fn double(instruction: &str, expected: impl Fn(f64, f64, f64) -> f64) {
    for seed in 1..6 {
        let wanted = |a, b, c| expected(f64::from_bits(a), f64::from_bits(b), f64::from_bits(c)).to_bits();
        check(&format!("{instruction}; mov.b64 %d, %m;"), doubles(seed), wanted, |w| f64::from_bits(w).is_nan());
    }
}

/// `op.ty d, a, b, c` of 16, 32 and 64 bits, in i128 arithmetic; the result is cut to `to` bits.
#[track_caller]
fn arithmetic(
    op: &str, types: &[&str], operands: usize, to: impl Fn(u32) -> u32,
    expected: impl Fn(i128, i128, i128, u32) -> i128,
) {
    for ty in types {
        let (signed, bits) = (ty.starts_with('s'), ty[1..].parse::<u32>().expect("bits"));
        let names = match bits {
            16 => ["%i", "%j", "%k"],
            32 => ["%x", "%y", "%z"],
            _ => ["%a", "%b", "%c"],
        };
        let read = |w: u64| {
            if signed {
                ((w << (64 - bits)) as i64 >> (64 - bits)) as i128
            } else {
                (w << (64 - bits) >> (64 - bits)) as i128
            }
        };
        let to = to(bits);
        let (result, widen) = match to {
            16 => ("%l", "cvt.u64.u16 %d, %l;"),
            32 => ("%w", "cvt.u64.u32 %d, %w;"),
            _ => ("%d", ""),
        };
        let third = match (op.contains("wide"), to) {
            (true, 32) => "%z",
            (true, _) => "%c",
            _ => names[2],
        };
        let sources = [names[0], names[1], third][..operands].join(", ");
        let wide = |w: u64| if third == names[2] { read(w) } else { w as i64 as i128 };
        integer(&format!("{op}.{ty} {result}, {sources}; {widen}"), |a, b, c| {
            expected(read(a), read(b), wide(c), bits) as u64 & (!0 >> (64 - to))
        });
    }
}
