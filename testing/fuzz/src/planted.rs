//! Decoders without their checks. The fuzzer must find each fault within seconds; otherwise its
//! other results mean nothing.

/// Trusts a length.
pub(crate) fn panic(input: &[u8]) {
    if let [b'L', b'O', b'G', length, rest @ ..] = input {
        let _ = &rest[..usize::from(*length)];
    }
}

/// Trusts that every entry has a length.
pub(crate) fn hang(input: &[u8]) {
    let [b'L', b'O', b'G', entries @ ..] = input else {
        return;
    };
    let mut rest = entries;
    while let [length, ..] = rest {
        rest = rest.get(usize::from(*length)..).unwrap_or_default();
    }
}

/// Allocates the announced size.
pub(crate) fn memory(input: &[u8]) {
    if let [b'L', b'O', b'G', length @ ..] = input
        && let Some(length) = length.first_chunk()
    {
        let room = vec![1_u8; u32::from_le_bytes(*length) as usize];
        std::hint::black_box(&room);
    }
}
