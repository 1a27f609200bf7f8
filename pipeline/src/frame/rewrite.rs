//! Rewrites the texts of a record that is already encoded, such as to redact secrets.
//!
//! The `Display` code of the user runs once, when the record is encoded. So texts are replaced in
//! the encoded record, not in its source.

use std::borrow::Cow;

use super::bytes::{put_text, put_u32};
use super::decode::decode_record;
use super::encode::RECORD_HEAD_BYTES;
use super::fields::put_rewritten_field;

/// Replaces the message of a record and the texts in its fields by the results of `rewrite`.
pub(crate) fn rewrite_record(body: &mut Vec<u8>, rewrite: &dyn for<'t> Fn(&'t str) -> Cow<'t, str>) {
    let Some((record, fields)) = decode_record(body) else {
        return;
    };
    let message = rewrite(record.message.text);
    let mut out = Vec::with_capacity(body.len());
    out.extend_from_slice(&body[..RECORD_HEAD_BYTES - 4]);
    put_u32(&mut out, message.len());
    out.extend_from_slice(record.target.as_bytes());
    out.extend_from_slice(message.as_bytes());
    for (name, value) in fields.iter().flatten() {
        // Every value that was decoded can be encoded.
        if put_rewritten_field(&mut out, name, value, rewrite).is_none() {
            return;
        }
    }
    if let Some((file, line)) = record.place {
        put_text(&mut out, file);
        put_u32(&mut out, line as usize);
    }
    *body = out;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode::{add_place, encode_record};
    use crate::frame::types::{LoggerId, RecordOrigin};

    #[test]
    fn rewrite_replaces_texts_and_keeps_the_rest() {
        let fields: &[(&str, log::kv::Value<'_>)] = &[("token", "s3cr3t".into()), ("step", 3.into())];
        let mut body = Vec::new();
        let args = format_args!("token is {}", "s3cr3t");
        let record = log::Record::builder()
            .target("s3cr3t::target")
            .args(args)
            .key_values(&fields)
            .file(Some("src/s3cr3t.rs"))
            .line(Some(7))
            .build();
        encode_record(&mut body, LoggerId(7), RecordOrigin::Facade.into(), &record);
        add_place(&mut body, &record);
        rewrite_record(&mut body, &|text| Cow::Owned(text.replace("s3cr3t", "***")));
        let (frame, fields) = decode_record(&body).unwrap();
        assert_eq!((frame.target, frame.message.text), ("s3cr3t::target", "token is ***"));
        assert_eq!(frame.place, Some(("src/s3cr3t.rs", 7)), "names stay");
        let shown: Vec<_> = fields
            .iter()
            .flatten()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(shown, ["token=***", "step=3"]);
    }
}
