//! Decoders without their checks. The fuzzer has to find each within seconds, or it finds nothing elsewhere either.

/// Believes a length.
pub(crate) fn panic(input: &[u8]) {
    if let [b'L', b'O', b'G', length, rest @ ..] = input {
        let _ = &rest[..usize::from(*length)];
    }
}

/// Believes that every entry has a length.
pub(crate) fn hang(input: &[u8]) {
    let [b'L', b'O', b'G', entries @ ..] = input else {
        return;
    };
    let mut rest = entries;
    while let [length, ..] = rest {
        rest = rest.get(usize::from(*length)..).unwrap_or_default();
    }
}

/// Makes room for as much as is announced.
pub(crate) fn memory(input: &[u8]) {
    if let [b'L', b'O', b'G', length @ ..] = input
        && let Some(length) = length.first_chunk()
    {
        let room = vec![1_u8; u32::from_le_bytes(*length) as usize];
        std::hint::black_box(&room);
    }
}
