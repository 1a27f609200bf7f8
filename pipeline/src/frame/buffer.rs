//! The buffer of each thread, in which a frame is encoded before it goes into the ring.

use std::cell::Cell;

/// Lends an empty buffer. After the first calls of a thread nothing is allocated.
///
/// A `Display` that logs while it is being formatted gets a buffer of its own, as does a thread
/// that is ending, whose locals are gone.
#[inline]
pub(crate) fn with_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    let result = work(&mut buffer);
    // One huge message must not keep its memory for the life of the thread.
    if buffer.capacity() <= MAX_KEPT_BYTES {
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
    }
    result
}

const MAX_KEPT_BYTES: usize = 1 << 20;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_call_gets_its_own_buffer() {
        let (outer, inner) = with_buffer(|outer| {
            outer.extend_from_slice(b"outer");
            let inner = with_buffer(|inner| {
                inner.extend_from_slice(b"inner");
                inner.clone()
            });
            (outer.clone(), inner)
        });
        assert_eq!(
            (outer.as_slice(), inner.as_slice()),
            (b"outer".as_slice(), b"inner".as_slice())
        );
    }

    #[test]
    fn huge_message_does_not_keep_its_memory() {
        with_buffer(|buffer| buffer.resize(8 << 20, 0));
        with_buffer(|buffer| {
            assert!(buffer.is_empty());
            assert!(buffer.capacity() <= MAX_KEPT_BYTES);
        });
    }
}
