//! The buffer of each thread, in which a frame is encoded before it goes into the ring.

use std::cell::RefCell;

/// Lends an empty buffer. After the first calls of a thread nothing is allocated.
pub(crate) fn with_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut work = Some(work);
    let mut lend = |buffer: &mut Vec<u8>| work.take().map(|work| work(buffer));
    let result = BUFFER.try_with(|cell| match cell.try_borrow_mut() {
        Ok(mut buffer) => {
            buffer.clear();
            let result = lend(&mut buffer);
            // One huge message must not keep its memory for the life of the thread.
            if buffer.capacity() > MAX_KEPT_BYTES {
                buffer.clear();
                buffer.shrink_to(MAX_KEPT_BYTES);
            }
            result
        }
        // A `Display` that logs while it is being formatted: the buffer is in use further up on the
        // stack of this thread.
        Err(_) => lend(&mut Vec::new()),
    });
    match result.ok().flatten() {
        Some(result) => result,
        // The thread is ending, and its locals are gone.
        None => match lend(&mut Vec::new()) {
            Some(result) => result,
            None => unreachable!("the work is done at most once, and its result was taken"),
        },
    }
}

const MAX_KEPT_BYTES: usize = 1 << 20;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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
