//! Mutants of PTX.

pub fn apply(text: &str, _file: &str) -> String {
    text.to_string()
}

pub fn write_coverage(_folder: &str, _text: &str, _covered: &[(String, u32)]) -> std::io::Result<()> {
    Ok(())
}
