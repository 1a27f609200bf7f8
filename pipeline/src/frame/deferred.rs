//! Deferred formatting: the literal of a message and the bytes of its arguments, in place of the
//! formatted message.
//!
//! The writer turns such a frame into the frame that the caller would have pushed, before anything
//! else looks at the frame. So folding, sinks and recovery know formatted records alone.

use log::Record as LogRecord;

use super::bytes::{ByteCursor, append};
use super::encode::{DEFERRED, FLAGS_AT, RECORD_HEAD_BYTES, record_head, target_of};
use super::format_spec::{LiteralPart, next_part};
use super::types::{LoggerId, RecordArrival};

/// The literal of a message whose formatting can wait: each of its fields takes the next argument,
/// and the spec of each is literal, as in `{}` and `{:>8.3e}`. So the literal and the arguments are
/// all that the message needs.
///
/// ```
/// use logcore_pipeline::DeferredMessage;
///
/// const STEP: Option<DeferredMessage> = DeferredMessage::new("step {} loss={:.4}", 2);
/// assert!(STEP.is_some());
///
/// // Only the compiler knows a captured variable, and a width may be an argument.
/// for message in ["step {step}", "{0}", "{:1$}", "{:.*}", "{} {}"] {
///     assert_eq!(DeferredMessage::new(message, 1), None);
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeferredMessage(&'static str);

impl DeferredMessage {
    /// Returns the message of a `format!` with this literal and a number of arguments; `None` if
    /// the caller has to format.
    #[must_use]
    pub const fn new(literal: &'static str, arguments: usize) -> Option<Self> {
        let is_short = literal.len() <= MAX_LITERAL && arguments <= MAX_ARGUMENTS;
        if is_short && has_fields(literal.as_bytes(), arguments) {
            return Some(Self(literal));
        }
        None
    }
}

/// Longest literal of a deferred message, in bytes.
const MAX_LITERAL: usize = 1024;
const MAX_ARGUMENTS: usize = 32;
/// Longest text among the arguments of a deferred message, in bytes.
const MAX_TEXT_ARGUMENT: usize = 256;

const fn has_fields(literal: &[u8], count: usize) -> bool {
    let (mut at, mut found) = (0, 0);
    while at < literal.len() {
        let Some(part) = next_part(literal, at) else {
            return false;
        };
        if part.spec.is_some() {
            found += 1;
        }
        at = part.next;
    }
    found == count
}

/// An argument of a message, by value.
///
/// ```
/// use logcore_pipeline::{DeferredArgument, DeferredType};
///
/// let loss = DeferredArgument::Bits(DeferredType::F64, 0.5_f64.to_bits());
/// assert_ne!(loss, DeferredArgument::Other);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeferredArgument<'a> {
    /// A value of any other type, whose text the caller has to make.
    Other,
    /// A value of up to 64 bits: of an integer, `value as u64`; of a float, the bits.
    Bits(DeferredType, u64),
    /// An `i128`, in its low and its high half.
    I128([u64; 2]),
    /// A `u128`, in its low and its high half.
    U128([u64; 2]),
    /// A text.
    Text(&'a str),
}

/// The type of an argument of up to 64 bits. The type decides the digits of `{:x}` and of a float.
#[expect(missing_docs, reason = "the types' names")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum DeferredType {
    Bool,
    Char,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
}

impl DeferredType {
    const ALL: [Self; 12] = [
        Self::Bool,
        Self::Char,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::F32,
        Self::F64,
    ];
}

// Tags behind those of `DeferredType`.
const I128: u8 = 32;
const U128: u8 = 33;
const TEXT: u8 = 34;

impl DeferredArgument<'_> {
    fn is_deferrable(&self) -> bool {
        match self {
            Self::Other => false,
            Self::Text(text) => text.len() <= MAX_TEXT_ARGUMENT,
            _ => true,
        }
    }
}

/// Returns `true` if a frame has room for all arguments.
#[inline]
pub(crate) fn are_deferrable(arguments: &[DeferredArgument<'_>]) -> bool {
    arguments.iter().all(DeferredArgument::is_deferrable)
}

/// Writes a record whose message the writer formats. `arguments` are [`are_deferrable`].
#[inline]
pub(crate) fn encode_deferred(
    out: &mut Vec<u8>,
    logger: LoggerId,
    arrival: RecordArrival,
    record: &LogRecord<'_>,
    message: DeferredMessage,
    arguments: &[DeferredArgument<'_>],
) {
    let target = target_of(arrival, record);
    let mut head = record_head(logger, arrival, record.level(), target);
    head[FLAGS_AT] |= DEFERRED;
    let head_at = out.len();
    out.extend_from_slice(&head);
    append(out, target);
    let message_at = out.len();
    let literal = message.0.as_bytes();
    out.extend_from_slice(&(literal.len() as u16).to_le_bytes());
    out.extend_from_slice(literal);
    for argument in arguments {
        put_argument(out, argument);
    }
    let length = (out.len() - message_at) as u32;
    out[head_at + RECORD_HEAD_BYTES - 4..head_at + RECORD_HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
}

#[inline]
fn put_argument(out: &mut Vec<u8>, argument: &DeferredArgument<'_>) {
    match argument {
        DeferredArgument::Other => {}
        DeferredArgument::Bits(kind, bits) => {
            let mut entry = [*kind as u8; 9];
            entry[1..].copy_from_slice(&bits.to_le_bytes());
            out.extend_from_slice(&entry);
        }
        DeferredArgument::I128(halves) => put_wide(out, I128, *halves),
        DeferredArgument::U128(halves) => put_wide(out, U128, *halves),
        DeferredArgument::Text(text) => {
            out.push(TEXT);
            out.extend_from_slice(&(text.len() as u16).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

fn put_wide(out: &mut Vec<u8>, tag: u8, [low, high]: [u64; 2]) {
    out.push(tag);
    out.extend_from_slice(&low.to_le_bytes());
    out.extend_from_slice(&high.to_le_bytes());
}

fn take_argument<'a>(cursor: &mut ByteCursor<'a>) -> Option<DeferredArgument<'a>> {
    Some(match cursor.u8()? {
        I128 => DeferredArgument::I128([cursor.u64()?, cursor.u64()?]),
        U128 => DeferredArgument::U128([cursor.u64()?, cursor.u64()?]),
        TEXT => {
            let length = usize::from(cursor.u16()?).min(MAX_TEXT_ARGUMENT);
            DeferredArgument::Text(std::str::from_utf8(cursor.take(length)?).ok()?)
        }
        tag => DeferredArgument::Bits(*DeferredType::ALL.get(usize::from(tag))?, cursor.u64()?),
    })
}

/// Returns `true` if the message of a record's frame is to be formatted.
#[inline]
pub(crate) fn is_deferred(body: &[u8]) -> bool {
    body.get(FLAGS_AT).is_some_and(|flags| flags & DEFERRED != 0)
}

/// Formats the messages of deferred frames.
#[derive(Default)]
pub(crate) struct DeferredFormatter {
    /// The literals of the last frames. Measured: to read a literal anew takes 1,100 instructions a
    /// line.
    literals: Vec<Literal>,
    message: String,
    frame: Vec<u8>,
}

/// A literal with its parts.
struct Literal {
    text: String,
    parts: Vec<LiteralPart>,
}

/// Number of literals that are kept: those that a loop of a program may log.
const MAX_LITERALS: usize = 32;

impl DeferredFormatter {
    /// Returns the frame of the same record with its message formatted; `None` for a damaged frame.
    pub(crate) fn format(&mut self, body: &[u8]) -> Option<&[u8]> {
        let (head, rest) = body.split_first_chunk::<RECORD_HEAD_BYTES>()?;
        let mut lengths = ByteCursor::new(&head[RECORD_HEAD_BYTES - 8..]);
        let (target_length, length) = (lengths.u32()? as usize, lengths.u32()? as usize);
        let mut cursor = ByteCursor::new(rest);
        let target = cursor.take(target_length)?;
        let mut deferred = ByteCursor::new(cursor.take(length)?);
        let literal_length = usize::from(deferred.u16()?);
        let literal = deferred.take(literal_length)?;
        self.format_message(literal, deferred)?;

        self.frame.clear();
        self.frame.extend_from_slice(&head[..RECORD_HEAD_BYTES - 4]);
        self.frame[FLAGS_AT] &= !DEFERRED;
        self.frame.extend_from_slice(&(self.message.len() as u32).to_le_bytes());
        self.frame.extend_from_slice(target);
        self.frame.extend_from_slice(self.message.as_bytes());
        self.frame.extend_from_slice(cursor.rest());
        Some(&self.frame)
    }

    fn format_message(&mut self, literal: &[u8], mut arguments: ByteCursor<'_>) -> Option<()> {
        let known = self.literals.iter().position(|known| known.text.as_bytes() == literal);
        let at = match known {
            Some(at) => at,
            None => {
                let read = Literal::read(literal)?;
                if self.literals.len() == MAX_LITERALS {
                    self.literals.clear();
                }
                self.literals.push(read);
                self.literals.len() - 1
            }
        };
        let Literal { text, parts } = &self.literals[at];
        self.message.clear();
        let mut start = 0;
        for part in parts {
            self.message.push_str(text.get(start..part.text_end)?);
            if let Some(spec) = &part.spec {
                spec.put(&mut self.message, text, &take_argument(&mut arguments)?)?;
            }
            start = part.next;
        }
        Some(())
    }
}

impl Literal {
    fn read(literal: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(literal).ok()?.to_owned();
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < literal.len() {
            let part = next_part(literal, at)?;
            at = part.next;
            parts.push(part);
        }
        Some(Self { text, parts })
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::{Binary, Debug, Display, LowerExp, LowerHex, Octal, UpperExp, UpperHex};

    use proptest::prelude::*;

    use super::*;
    use crate::frame::decode::decode_record;
    use crate::frame::encode::add_place;
    use crate::frame::types::RecordOrigin;

    fn encoded(message: DeferredMessage, arguments: &[DeferredArgument<'_>]) -> Vec<u8> {
        let record = log::Record::builder()
            .target("app::data")
            .file(Some("src/data.rs"))
            .line(Some(7))
            .build();
        let mut body = Vec::new();
        let arrival = RecordOrigin::Addressed.into();
        encode_deferred(&mut body, LoggerId(7), arrival, &record, message, arguments);
        add_place(&mut body, &record);
        body
    }

    /// Returns the message as the writer formats it.
    fn formatted(message: DeferredMessage, arguments: &[DeferredArgument<'_>]) -> String {
        let body = encoded(message, arguments);
        assert!(is_deferred(&body) && decode_record(&body).is_none());
        let mut formatter = DeferredFormatter::default();
        let body = formatter.format(&body).unwrap();
        let (frame, _) = decode_record(body).unwrap();
        assert_eq!((frame.logger, frame.target), (LoggerId(7), "app::data"));
        assert_eq!(frame.place, Some(("src/data.rs", 7)));
        frame.message.text.to_owned()
    }

    /// Compares the text of an argument with `format!`, for each literal spec with these letters.
    macro_rules! compare {
        ($value:expr, $argument:expr, $letters:literal) => {
            compare!(
                $value, $argument, $letters;
                "" "0" "1" "12" "<12" "^12" ">12" "*^13" "é>9" "🦀<9" "05" "012" "00012" "+" "+8" "+08" "#" "#12"
                "#012" "+#014" ".0" ".1" ".3" ".17" "12.3" "+012.3" "*<+12.2" "^5.1" "<.2" "0>6" "0<6" ">>5" "<^6"
                "+>6" "#^7" ".^7" "x>4" "#.2" "#09.2" "+.0" "+#.1" "+#9.1" "500" ".500"
            );
        };
        ($value:expr, $argument:expr, $letters:literal; $($spec:literal)+) => {$({
            const LITERAL: &str = concat!("ä{{{:", $spec, $letters, "}}}ö");
            let message = DeferredMessage::new(LITERAL, 1).expect(LITERAL);
            assert_eq!(
                formatted(message, &[$argument]),
                format!(concat!("ä{{{:", $spec, $letters, "}}}ö"), $value),
                "{LITERAL}"
            );
        })+};
    }

    fn compare_plain(value: impl Display + Debug, argument: DeferredArgument<'_>) {
        compare!(value, argument, "");
        compare!(value, argument, "?");
    }

    fn compare_number(value: impl Display + Debug + LowerExp + UpperExp, argument: DeferredArgument<'_>) {
        compare!(value, argument, "e");
        compare!(value, argument, "E");
        compare_plain(value, argument);
    }

    fn compare_integer<T>(value: T, argument: DeferredArgument<'_>)
    where
        T: Display + Debug + LowerExp + UpperExp + LowerHex + UpperHex + Octal + Binary,
    {
        compare!(value, argument, "x");
        compare!(value, argument, "X");
        compare!(value, argument, "o");
        compare!(value, argument, "b");
        compare_number(value, argument);
    }

    fn compare_integers(bits: u64, high: u64) {
        use DeferredType as Type;
        let of = |kind| DeferredArgument::Bits(kind, bits);
        compare_integer(bits as i8, DeferredArgument::Bits(Type::I8, bits as i8 as u64));
        compare_integer(bits as i16, of(Type::I16));
        compare_integer(bits as i32, of(Type::I32));
        compare_integer(bits as i64, of(Type::I64));
        compare_integer(bits as u8, of(Type::U8));
        compare_integer(bits as u16, of(Type::U16));
        compare_integer(bits as u32, of(Type::U32));
        compare_integer(bits, of(Type::U64));
        let wide = u128::from(bits) | u128::from(high) << 64;
        compare_integer(wide, DeferredArgument::U128([bits, high]));
        compare_integer(wide as i128, DeferredArgument::I128([bits, high]));
    }

    fn compare_floats(bits: u64) {
        let (float, single) = (f64::from_bits(bits), f32::from_bits(bits as u32));
        compare_number(float, DeferredArgument::Bits(DeferredType::F64, bits));
        compare_number(
            single,
            DeferredArgument::Bits(DeferredType::F32, u64::from(single.to_bits())),
        );
    }

    #[test]
    fn extremes_are_formatted_as_by_the_standard_library() {
        for bits in [0, 1, 9, 10, 0x7f, 0x80, u64::MAX, i64::MIN as u64, i64::MAX as u64] {
            compare_integers(bits, 0);
            compare_integers(bits, u64::MAX);
        }
        let floats = [
            0.0,
            -0.0,
            1.0,
            -1.5,
            0.1,
            1e15,
            1e16,
            1e-5,
            123_456.789,
            9.999_95,
            0.5,
            2.5,
            1e300,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN,
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
            f64::EPSILON,
        ];
        for float in floats {
            compare_floats(float.to_bits());
            compare_floats(u64::from((float as f32).to_bits()));
        }
        for value in [false, true] {
            compare_plain(value, DeferredArgument::Bits(DeferredType::Bool, u64::from(value)));
        }
        for value in [
            'a',
            'ä',
            '\n',
            '\'',
            '"',
            '\\',
            '\0',
            '\u{301}',
            '\u{200b}',
            '🦀',
            char::MAX,
        ] {
            compare_plain(
                value,
                DeferredArgument::Bits(DeferredType::Char, u64::from(u32::from(value))),
            );
        }
        for value in [
            "",
            "a",
            "äöü",
            "line\nend\t\"quoted\" {}",
            "\u{301}e\0\u{1b}",
            &"ä".repeat(128),
        ] {
            compare_plain(value, DeferredArgument::Text(value));
        }
    }

    #[test]
    fn all_fields_of_a_literal_take_an_argument_in_turn() {
        let message = DeferredMessage::new("{}{:?}: {{{:.1}}} of {:>4}}}", 4).unwrap();
        let arguments = [
            DeferredArgument::Bits(DeferredType::Bool, 1),
            DeferredArgument::Text("a\tb"),
            DeferredArgument::Bits(DeferredType::F64, 0.25_f64.to_bits()),
            DeferredArgument::Bits(DeferredType::I8, -3_i64 as u64),
        ];
        assert_eq!(
            formatted(message, &arguments),
            format!("{}{:?}: {{{:.1}}} of {:>4}}}", true, "a\tb", 0.25, -3)
        );
    }

    #[test]
    fn formatter_keeps_literals_apart() {
        let mut formatter = DeferredFormatter::default();
        let leak = |number: usize| (number, &*format!("{number} of {{:>{number}}}").leak());
        let literals: Vec<(usize, &'static str)> = (1..3 * MAX_LITERALS).map(leak).collect();
        for _ in 0..2 {
            for (number, literal) in &literals {
                let message = DeferredMessage::new(literal, 1).unwrap();
                let body = encoded(message, &[DeferredArgument::Text("x")]);
                let (frame, _) = decode_record(formatter.format(&body).unwrap()).unwrap();
                assert_eq!(frame.message.text, format!("{number} of {:>number$}", 'x'));
            }
        }
        assert!(formatter.literals.len() <= MAX_LITERALS);
    }

    #[test]
    fn only_a_text_of_256_bytes_is_deferred() {
        let (longest, longer) = ("x".repeat(256), "x".repeat(257));
        assert!(are_deferrable(&[DeferredArgument::Text(&longest)]));
        assert!(!are_deferrable(&[DeferredArgument::Text(&longer)]));
        assert!(!are_deferrable(&[DeferredArgument::Text(""), DeferredArgument::Other]));
        let message = DeferredMessage::new("{}", 1).unwrap();
        assert_eq!(formatted(message, &[DeferredArgument::Text(&longest)]), longest);
    }

    #[test]
    fn other_literals_are_left_to_the_caller() {
        let others = [
            "{step}",
            "{0}",
            "{:1$}",
            "{:width$}",
            "{:.*}",
            "{:.1$}",
            "{:.p$}",
            "{:x?}",
            "{:p}",
            "{: }",
            "{",
            "}",
            "{}}",
            "{:501}",
            "{:.501}",
            "{:99999999999999999999}",
            "{:<05}",
            "{:-}",
            "{:.}",
            "{:é",
            "{:",
            "",
            "{}{}",
        ];
        for other in others {
            assert_eq!(DeferredMessage::new(other, 1), None, "{other:?}");
        }
        assert!(DeferredMessage::new("nothing", 0).is_some());
    }

    proptest! {
        // A case compares thousands of texts.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn numbers_are_formatted_as_by_the_standard_library(bits: u64, high: u64, shift in 0..64_u32) {
            compare_integers(bits >> shift, high);
        }

        #[test]
        fn floats_are_formatted_as_by_the_standard_library(bits: u64, usual in -1e6..1e6_f64) {
            compare_floats(bits);
            compare_floats(usual.to_bits());
            compare_floats(u64::from((usual as f32).to_bits()));
        }

        #[test]
        fn texts_are_formatted_as_by_the_standard_library(text in "(?s).{0,60}", value: char) {
            compare_plain(text.as_str(), DeferredArgument::Text(&text));
            compare_plain(value, DeferredArgument::Bits(DeferredType::Char, u64::from(u32::from(value))));
        }

        #[test]
        fn damaged_frames_never_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut: prop::sample::Index,
            literal in prop_oneof![Just("{} {:?}".to_owned()), "[{}:é<^>+#0-9.?xe ]{0,20}"],
        ) {
            let message = DeferredMessage::new("{:*>8} {:?}", 2).unwrap();
            let arguments = [DeferredArgument::Text("äb"), DeferredArgument::Bits(DeferredType::Char, 97)];
            let mut body = encoded(message, &arguments);
            let at = RECORD_HEAD_BYTES + "app::data".len() + 2;
            let length = literal.len().min(11);
            body[at..at + length].copy_from_slice(&literal.as_bytes()[..length]);
            for (index, byte) in changes {
                let at = index.index(body.len());
                body[at] = byte;
            }
            body.truncate(cut.index(2 * body.len()));
            if let Some(frame) = DeferredFormatter::default().format(&body) {
                let _ = decode_record(frame);
            }
        }
    }
}
