//! Runs the repository's CUDA tests many times over: on mutants of its kernels, and on two devices
//! whose results it compares. `./cuda-sim` calls it.

mod compare;
mod mutants;
mod suite;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["compare", emulator, other, ref rest @ ..] => compare::run(emulator, other, rest),
        ["mutate", emulator, ref rest @ ..] => mutants::run(emulator, rest),
        _ => Err("usage: cudasim-tools compare|mutate EMULATOR ...; see ./cuda-sim".to_string()),
    };
    match result {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(message) => {
            eprintln!("{message}");
            std::process::exit(2);
        }
    }
}
