//! The limit: what formatting the line costs by itself.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::ZonedDateTime;

use crate::line::{Line, TARGET};
use crate::with_line;

/// Formats the line into a reused buffer and throws it away. The text of the second is kept for the
/// calls within it, as any careful logger would: the limit is to be hard to reach.
pub fn format_only(line: &Line) {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.prefix();
        // Writing to a String cannot fail.
        let _ = with_line!(line, write!(buffer.text,));
        black_box(&buffer.text);
    });
}

thread_local! {
    static BUFFER: RefCell<Buffer> = RefCell::default();
}

#[derive(Default)]
struct Buffer {
    text: String,
    second: u64,
    second_text: String,
}

impl Buffer {
    fn prefix(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if now.as_secs() != self.second {
            self.second = now.as_secs();
            self.second_text = ZonedDateTime::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
        }
        let millis = now.subsec_millis();
        let digit = |value: u32| char::from(b'0' + (value % 10) as u8);
        self.text.clear();
        self.text.push_str(&self.second_text);
        self.text
            .extend(['.', digit(millis / 100), digit(millis / 10), digit(millis)]);
        self.text.push_str(" | INFO  | ");
        self.text.push_str(TARGET);
        self.text.push_str(" | ");
    }
}
