//! Literals of `format!`: their parts, and how one argument is formatted by its spec.

use std::fmt::{Binary, Debug, Display, LowerExp, LowerHex, Octal, UpperExp, UpperHex, Write as _};

use super::deferred::{DeferredArgument, DeferredType};

/// A part of a literal: a text, and the field behind the text.
pub(super) struct LiteralPart {
    pub(super) text_end: usize,
    /// `None` before the end of the literal, or before a doubled brace.
    pub(super) spec: Option<FormatSpec>,
    /// The offset of the next part.
    pub(super) next: usize,
}

/// The spec of a field, as in `{:*^+#10.3e}`.
pub(super) struct FormatSpec {
    /// Where the literal has the character that fills; empty for a space.
    fill: (usize, usize),
    /// `<`, `^` or `>`; 0 for that of the type.
    align: u8,
    plus: bool,
    alternate: bool,
    /// Zeros fill up to the width, behind the sign.
    zeros: bool,
    width: Option<usize>,
    precision: Option<usize>,
    by: FormatTrait,
}

/// The trait that formats.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FormatTrait {
    Display,
    Debug,
    LowerHex,
    UpperHex,
    Octal,
    Binary,
    LowerExp,
    UpperExp,
}

/// Widths and precisions beyond this are left to the caller, so that a damaged frame makes no huge
/// text.
const MAX_WIDTH: usize = 500;

/// Returns the part of a literal that begins at `at`; `None` if a field takes anything but the next
/// argument, or has a spec that is not literal, or one of a rare form.
///
/// A constant function, since the compiler decides whether a call is deferred.
pub(super) const fn next_part(literal: &[u8], at: usize) -> Option<LiteralPart> {
    let mut end = at;
    while end < literal.len() && literal[end] != b'{' && literal[end] != b'}' {
        end += 1;
    }
    if end == literal.len() {
        return Some(text_part(end, end));
    }
    if end + 1 < literal.len() && literal[end + 1] == literal[end] {
        return Some(text_part(end + 1, end + 2));
    }
    if literal[end] == b'}' {
        return None;
    }
    match read_spec(literal, end + 1) {
        Some((spec, next)) => Some(LiteralPart {
            text_end: end,
            spec: Some(spec),
            next,
        }),
        None => None,
    }
}

const fn text_part(text_end: usize, next: usize) -> LiteralPart {
    LiteralPart {
        text_end,
        spec: None,
        next,
    }
}

/// Reads a spec up to its closing brace, and returns the offset behind that.
const fn read_spec(literal: &[u8], start: usize) -> Option<(FormatSpec, usize)> {
    let mut spec = FormatSpec {
        fill: (0, 0),
        align: 0,
        plus: false,
        alternate: false,
        zeros: false,
        width: None,
        precision: None,
        by: FormatTrait::Display,
    };
    let mut at = start;
    if byte(literal, at) == b'}' {
        return Some((spec, at + 1));
    }
    if byte(literal, at) != b':' {
        return None;
    }
    at += 1;
    let fill_end = at + char_length(byte(literal, at));
    if is_align(byte(literal, fill_end)) && !matches!(byte(literal, at), b'{' | b'}') {
        spec.fill = (at, fill_end);
        spec.align = byte(literal, fill_end);
        at = fill_end + 1;
    } else if is_align(byte(literal, at)) {
        spec.align = byte(literal, at);
        at += 1;
    }
    if byte(literal, at) == b'+' {
        spec.plus = true;
        at += 1;
    }
    if byte(literal, at) == b'#' {
        spec.alternate = true;
        at += 1;
    }
    if byte(literal, at) == b'0' {
        spec.zeros = true;
        at += 1;
    }
    (spec.width, at) = read_number(literal, at);
    if byte(literal, at) == b'.' {
        (spec.precision, at) = read_number(literal, at + 1);
        if spec.precision.is_none() {
            return None;
        }
    }
    (spec.by, at) = match byte(literal, at) {
        b'?' => (FormatTrait::Debug, at + 1),
        b'x' => (FormatTrait::LowerHex, at + 1),
        b'X' => (FormatTrait::UpperHex, at + 1),
        b'o' => (FormatTrait::Octal, at + 1),
        b'b' => (FormatTrait::Binary, at + 1),
        b'e' => (FormatTrait::LowerExp, at + 1),
        b'E' => (FormatTrait::UpperExp, at + 1),
        _ => (FormatTrait::Display, at),
    };
    // For some types zeros go before the alignment, for others behind.
    let is_rare = spec.zeros && spec.align != 0 || too_large(spec.width) || too_large(spec.precision);
    if is_rare || byte(literal, at) != b'}' {
        return None;
    }
    Some((spec, at + 1))
}

/// Returns the byte at an offset; 0 behind the end.
const fn byte(literal: &[u8], at: usize) -> u8 {
    if at < literal.len() { literal[at] } else { 0 }
}

/// Returns the length of the character that begins with a byte.
const fn char_length(first: u8) -> usize {
    match first {
        0..0xc0 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    }
}

const fn is_align(byte: u8) -> bool {
    matches!(byte, b'<' | b'^' | b'>')
}

const fn too_large(number: Option<usize>) -> bool {
    matches!(number, Some(number) if number > MAX_WIDTH)
}

const fn read_number(literal: &[u8], start: usize) -> (Option<usize>, usize) {
    let (mut number, mut at) = (0, start);
    while byte(literal, at).is_ascii_digit() {
        if number <= MAX_WIDTH {
            number = 10 * number + (byte(literal, at) - b'0') as usize;
        }
        at += 1;
    }
    if at == start { (None, at) } else { (Some(number), at) }
}

impl FormatSpec {
    /// Appends an argument; `None` if its type does not have the trait.
    ///
    /// The standard library formats. Only fill, alignment and width are added here, because no
    /// argument of `write!` can hold the first two.
    pub(super) fn put(&self, out: &mut String, literal: &str, argument: &DeferredArgument<'_>) -> Option<()> {
        let start = out.len();
        let is_number = match *argument {
            DeferredArgument::Other => return None,
            DeferredArgument::I128([low, high]) => {
                self.put_integer(out, (u128::from(low) | u128::from(high) << 64) as i128)?;
                true
            }
            DeferredArgument::U128([low, high]) => {
                self.put_integer(out, u128::from(low) | u128::from(high) << 64)?;
                true
            }
            DeferredArgument::Bits(kind, bits) => {
                self.put_bits(out, kind, bits)?;
                if kind == DeferredType::Char && self.by == FormatTrait::Debug {
                    return Some(());
                }
                !matches!(kind, DeferredType::Bool | DeferredType::Char)
            }
            DeferredArgument::Text(text) => {
                self.put_plain(out, text)?;
                if self.by == FormatTrait::Debug {
                    // The standard library takes no width there, and none for a character.
                    return Some(());
                }
                false
            }
        };
        if let Some(width) = self.width.filter(|_| !self.zeros) {
            self.pad(out, literal, start, width, is_number);
        }
        Some(())
    }

    fn pad(&self, out: &mut String, literal: &str, start: usize, width: usize, is_number: bool) {
        let missing = width.saturating_sub(out[start..].chars().count());
        if missing == 0 {
            return;
        }
        let left = match self.align {
            b'<' => 0,
            b'^' => missing / 2,
            b'>' => missing,
            _ if is_number => missing,
            _ => 0,
        };
        let fill = match literal.get(self.fill.0..self.fill.1) {
            None | Some("") => " ",
            Some(fill) => fill,
        };
        if left > 0 {
            out.insert_str(start, &fill.repeat(left));
        }
        (left..missing).for_each(|_| out.push_str(fill));
    }

    fn put_bits(&self, out: &mut String, kind: DeferredType, bits: u64) -> Option<()> {
        match kind {
            DeferredType::Bool => self.put_plain(out, bits != 0),
            DeferredType::Char => self.put_plain(out, char::from_u32(bits as u32)?),
            DeferredType::I8 => self.put_integer(out, bits as i8),
            DeferredType::I16 => self.put_integer(out, bits as i16),
            DeferredType::I32 => self.put_integer(out, bits as i32),
            DeferredType::I64 => self.put_integer(out, bits as i64),
            DeferredType::U8 => self.put_integer(out, bits as u8),
            DeferredType::U16 => self.put_integer(out, bits as u16),
            DeferredType::U32 => self.put_integer(out, bits as u32),
            DeferredType::U64 => self.put_integer(out, bits),
            DeferredType::F32 => self.put_float(out, f32::from_bits(bits as u32)),
            DeferredType::F64 => self.put_float(out, f64::from_bits(bits)),
        }
    }

    fn put_integer<T>(&self, out: &mut String, value: T) -> Option<()>
    where
        T: Display + Debug + LowerHex + UpperHex + Octal + Binary + LowerExp + UpperExp,
    {
        match self.by {
            FormatTrait::Display => put_display(out, self, &value),
            FormatTrait::Debug => put_debug(out, self, &value),
            FormatTrait::LowerHex => put_lower_hex(out, self, &value),
            FormatTrait::UpperHex => put_upper_hex(out, self, &value),
            FormatTrait::Octal => put_octal(out, self, &value),
            FormatTrait::Binary => put_binary(out, self, &value),
            FormatTrait::LowerExp => put_lower_exp(out, self, &value),
            FormatTrait::UpperExp => put_upper_exp(out, self, &value),
        }
    }

    fn put_float<T: Display + Debug + LowerExp + UpperExp>(&self, out: &mut String, value: T) -> Option<()> {
        match self.by {
            FormatTrait::Display => put_display(out, self, &value),
            FormatTrait::Debug => put_debug(out, self, &value),
            FormatTrait::LowerExp => put_lower_exp(out, self, &value),
            FormatTrait::UpperExp => put_upper_exp(out, self, &value),
            _ => None,
        }
    }

    fn put_plain<T: Display + Debug>(&self, out: &mut String, value: T) -> Option<()> {
        match self.by {
            FormatTrait::Display => put_display(out, self, &value),
            FormatTrait::Debug => put_debug(out, self, &value),
            _ => None,
        }
    }
}

/// Defines a function that formats by a trait, with the flags and the precision of a spec, and with
/// its width if zeros fill.
macro_rules! define_put {
    ($($name:ident: $trait:ident as $letter:literal;)+) => {$(
        fn $name(out: &mut String, spec: &FormatSpec, value: &dyn $trait) -> Option<()> {
            let zeros = spec.zeros.then(|| spec.width.unwrap_or(0));
            match (spec.plus, spec.alternate, zeros, spec.precision) {
                (false, false, None, None) => write!(out, concat!("{:", $letter, "}"), value),
                (false, false, None, Some(p)) => write!(out, concat!("{:.p$", $letter, "}"), value, p = p),
                (false, false, Some(w), None) => write!(out, concat!("{:0w$", $letter, "}"), value, w = w),
                (false, false, Some(w), Some(p)) => {
                    write!(out, concat!("{:0w$.p$", $letter, "}"), value, w = w, p = p)
                }
                (false, true, None, None) => write!(out, concat!("{:#", $letter, "}"), value),
                (false, true, None, Some(p)) => write!(out, concat!("{:#.p$", $letter, "}"), value, p = p),
                (false, true, Some(w), None) => write!(out, concat!("{:#0w$", $letter, "}"), value, w = w),
                (false, true, Some(w), Some(p)) => {
                    write!(out, concat!("{:#0w$.p$", $letter, "}"), value, w = w, p = p)
                }
                (true, false, None, None) => write!(out, concat!("{:+", $letter, "}"), value),
                (true, false, None, Some(p)) => write!(out, concat!("{:+.p$", $letter, "}"), value, p = p),
                (true, false, Some(w), None) => write!(out, concat!("{:+0w$", $letter, "}"), value, w = w),
                (true, false, Some(w), Some(p)) => {
                    write!(out, concat!("{:+0w$.p$", $letter, "}"), value, w = w, p = p)
                }
                (true, true, None, None) => write!(out, concat!("{:+#", $letter, "}"), value),
                (true, true, None, Some(p)) => write!(out, concat!("{:+#.p$", $letter, "}"), value, p = p),
                (true, true, Some(w), None) => write!(out, concat!("{:+#0w$", $letter, "}"), value, w = w),
                (true, true, Some(w), Some(p)) => {
                    write!(out, concat!("{:+#0w$.p$", $letter, "}"), value, w = w, p = p)
                }
            }
            .ok()
        }
    )+};
}

define_put! {
    put_display: Display as "";
    put_debug: Debug as "?";
    put_lower_hex: LowerHex as "x";
    put_upper_hex: UpperHex as "X";
    put_octal: Octal as "o";
    put_binary: Binary as "b";
    put_lower_exp: LowerExp as "e";
    put_upper_exp: UpperExp as "E";
}
