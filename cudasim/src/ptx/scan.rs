//! Reading text: comments, brackets, numbers (4.5), declarations (5.4).

use super::types::Type;

/// Cuts comments off; line numbers stay what they were.
pub fn without_comments(source: &str) -> String {
    let code = |line: &str| match line.find("//") {
        Some(comment) if !line[..comment].contains('"') => line[..comment].to_string(),
        _ => line.to_string(),
    };
    source.lines().map(|line| code(line) + "\n").collect()
}

/// The first `stop` of `text` that is in no bracket. For a bracket that opens at the start of `text`
/// and closes there, that is its end.
pub fn find_outside(text: &str, stop: char) -> Option<usize> {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if c == stop && depth == 0 {
            return Some(i);
        }
    }
    None
}

/// Splits at the commas that are in no bracket.
pub fn list(text: &str) -> Vec<&str> {
    let (mut rest, mut items) = (text, Vec::new());
    while let Some(comma) = find_outside(rest, ',') {
        items.push(rest[..comma].trim());
        rest = &rest[comma + 1..];
    }
    items.push(rest.trim());
    items.retain(|item| !item.is_empty());
    items
}

/// The bits of an integer, `0x1FU`, `0f3F800000` or `0d3FF0000000000000`, or of the constant `WARP_SZ`.
pub fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Some(positive) = text.strip_prefix('-') {
        return number(positive).map(u64::wrapping_neg);
    }
    if text == "WARP_SZ" {
        return Some(32);
    }
    let text = text.strip_suffix('U').unwrap_or(text);
    let hex = ["0x", "0X", "0f", "0F", "0d", "0D"].iter().find_map(|prefix| text.strip_prefix(prefix));
    hex.map_or_else(|| text.parse().ok(), |digits| u64::from_str_radix(digits, 16).ok())
}

/// `name+offset`, as an address or a variable is written.
pub fn offset(text: &str) -> Result<(&str, u64), String> {
    let Some((name, offset)) = text.split_once('+') else { return Ok((text.trim(), 0)) };
    let offset = number(offset).ok_or_else(|| format!("cannot read the offset of `{text}`"))?;
    Ok((name.trim(), offset))
}

/// A declared variable or parameter.
#[derive(Clone, Debug)]
pub struct Declaration {
    pub name: String,
    pub bytes: usize,
    pub align: usize,
    /// Bytes of one element.
    pub element: usize,
}

impl Declaration {
    /// Reads `.align 16 .b8 name[12]`. `name[]` has no bytes.
    pub fn parse(text: &str) -> Result<Declaration, String> {
        let wrong = || format!("cannot read the declaration `{}`", text.trim());
        let (mut align, mut element, mut name) = (0, 0, "");
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            match word.strip_prefix('.') {
                Some("align") => align = words.next().and_then(|n| n.parse().ok()).ok_or_else(wrong)?,
                Some(attribute) => element = Type::parse(attribute).map_or(element, Type::bytes),
                None => name = word,
            }
        }
        let (name, dims) = name.split_once('[').unwrap_or((name, "1"));
        let dims = dims.split('[').map(|d| d.trim_end_matches(']'));
        let dims = dims.map(|d| if d.is_empty() { Ok(0) } else { d.parse::<usize>() });
        let count: usize = dims.product::<Result<_, _>>().map_err(|_| wrong())?;
        if name.is_empty() || element == 0 {
            return Err(wrong());
        }
        Ok(Declaration { name: name.to_string(), bytes: element * count, align: align.max(element), element })
    }
}
