//! Event files of TensorBoard: any bytes, and any messages in records with valid checksums.

use logcore_tensorboard::{EventBuffer, EventReader, SessionStatus};

use crate::sections;

/// Bytes around a message: its length with a checksum before, its own checksum behind.
const HEADER: usize = 12;
const FOOTER: usize = 4;

/// Reads a file. The first byte chooses its form.
pub(crate) fn run(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    let bytes = match kind % 2 {
        0 => rest.to_vec(),
        _ => sections::read(rest).flat_map(|(_, message)| record(message)).collect(),
    };
    let mut reader = EventReader::new(&*bytes);
    let mut before = 0;
    while let Ok(Some(_)) = reader.next_event() {
        let position = reader.position();
        assert!(
            position > before && position <= bytes.len() as u64,
            "{position} after {before}"
        );
        before = position;
    }
}

/// A file with an event of each kind, whole, cut and with a bit that has flipped; and its messages.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut events = EventBuffer::default();
    events.begin_file(1.0);
    let config = serde_json::json!({"lr": 0.1, "name": "a", "deep": {"on": true}});
    events.hyper_parameters(1.0, config.as_object().expect("an object"));
    events.begin_session(1.0, 0);
    events.scalars(
        2.0,
        3,
        [
            ("loss", logcore::MetricValue::Float(0.5)),
            ("n", logcore::MetricValue::Int(7)),
        ],
    );
    events.text(2.0, 3, "text/log", "a line");
    events.end_session(3.0, SessionStatus::Success);
    let whole = [&[0], events.bytes()].concat();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    let cut = whole[..whole.len() - 5].to_vec();
    let mut messages = vec![1];
    let mut rest = events.bytes();
    while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
        let length = usize::from(header[0]) | usize::from(header[1]) << 8;
        sections::put(0, &after[..length], &mut messages);
        rest = &after[length + FOOTER..];
    }
    vec![whole, flipped, cut, messages]
}

/// A record around a message, as `tensorflow/core/lib/io/record_writer.h` describes it.
fn record(message: &[u8]) -> Vec<u8> {
    let checksum = |bytes: &[u8]| {
        crc32c::crc32c(bytes)
            .rotate_right(15)
            .wrapping_add(0xa282_ead8)
            .to_le_bytes()
    };
    let length = (message.len() as u64).to_le_bytes();
    [&length[..], &checksum(&length), message, &checksum(message)].concat()
}
