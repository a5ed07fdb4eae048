//! Reading text: comments, brackets, numbers (4.5), declarations (5.4).

use super::types::Type;

/// Blanks comments out; line numbers stay what they were.
pub fn without_comments(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = match &bytes[i..] {
            [b'"', ..] => {
                let quoted = bytes[i + 1..].iter().position(|b| *b == b'"');
                i += quoted.map_or(bytes.len(), |n| n + 2);
                continue;
            }
            [b'/', b'/', ..] => source[i..].find('\n').map_or(bytes.len(), |n| i + n),
            [b'/', b'*', ..] => source[i..].find("*/").map_or(bytes.len(), |n| i + n + 2),
            _ => {
                i += 1;
                continue;
            }
        };
        for byte in &mut out[i..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        i = end;
    }
    // Only whole characters were replaced, each byte by a space.
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the bracket that opens at the start of `text` closes.
pub fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut quoted = false;
    for (i, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

/// The first `stop` of `text` that is in no bracket.
pub fn find_outside(text: &str, stop: char) -> Option<usize> {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            _ if c == stop && depth == 0 => return Some(i),
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
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

/// The bits of an integer, `0f3F800000` or `0d3FF0000000000000` literal.
pub fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Some(positive) = text.strip_prefix('-') {
        return number(positive).map(u64::wrapping_neg);
    }
    let text = text.strip_suffix('U').unwrap_or(text);
    for prefix in ["0x", "0X", "0f", "0F", "0d", "0D"] {
        if let Some(hex) = text.strip_prefix(prefix) {
            return u64::from_str_radix(hex, 16).ok();
        }
    }
    text.parse().ok()
}

/// A declared variable or parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Declaration {
    pub name: String,
    pub bytes: usize,
    pub align: usize,
    /// Bytes of one element.
    pub element: usize,
}

impl Declaration {
    /// Reads `.align 16 .b8 name[12]`.
    pub fn parse(text: &str) -> Result<Declaration, String> {
        let wrong = || format!("cannot read the declaration `{}`", text.trim());
        let mut words = text.split_whitespace();
        let (mut align, mut element, mut vector) = (0, 0, 1);
        let mut name = String::new();
        while let Some(word) = words.next() {
            match word {
                ".align" => {
                    align = words.next().and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
                }
                ".v2" => vector = 2,
                ".v4" => vector = 4,
                _ => match word.strip_prefix('.') {
                    Some(attribute) => {
                        if let Some(ty) = Type::parse(attribute) {
                            element = ty.bytes();
                        }
                    }
                    None => name.push_str(word),
                },
            }
        }
        let (name, dims) = name.split_once('[').unwrap_or((&name, ""));
        let dims = dims.split('[').map(|d| d.trim_end_matches(']'));
        let mut count = 1;
        for (i, dim) in dims.enumerate() {
            count *= match dim {
                "" if i == 0 && !text.contains('[') => 1,
                "" => 0,
                dim => dim.parse().map_err(|_| wrong())?,
            };
        }
        if name.is_empty() || element == 0 {
            return Err(wrong());
        }
        Ok(Declaration {
            name: name.to_string(),
            bytes: element * vector * count,
            align: align.max(element * vector),
            element,
        })
    }
}
