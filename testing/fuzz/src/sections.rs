//! Inputs of several parts, each `tag u8, length u16, bytes`. Any bytes are such an input.

/// Returns the parts of an input; the last may be cut.
pub(crate) fn read(input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = input;
    std::iter::from_fn(move || {
        let (&[tag, low, high], after) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes([low, high])).min(after.len());
        let (part, after) = after.split_at(length);
        rest = after;
        Some((tag, part))
    })
}

/// Appends a part, which is cut if it is too long.
pub(crate) fn put(tag: u8, part: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
    out.push(tag);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&part[..usize::from(length)]);
}
