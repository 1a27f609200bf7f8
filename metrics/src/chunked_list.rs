//! A list that is compact while it is short, and that grows without copying.

use std::mem;

/// A list in chunks. Each new chunk is as long as all chunks before it together, up to [`LARGEST`].
/// So at most half of the memory is unused, and for a long list at most one chunk.
#[derive(Debug)]
pub(crate) struct ChunkedList<T> {
    full: Vec<Vec<T>>,
    tail: Vec<T>,
    len: usize,
}

/// Size of the first chunk in bytes: sixteen doubles. In a run with thousands of metrics, most of
/// them have few values.
const FIRST: usize = 128;

/// Maximum size of a chunk in bytes: 4096 doubles.
const LARGEST: usize = 32 << 10;

impl<T> Default for ChunkedList<T> {
    fn default() -> Self {
        Self {
            full: Vec::new(),
            tail: Vec::new(),
            len: 0,
        }
    }
}

impl<T: Copy> ChunkedList<T> {
    /// Adds a value; returns the number of bytes by which the list has grown, which is mostly 0.
    #[inline]
    pub(crate) fn push(&mut self, value: T) -> usize {
        let grown = if self.tail.len() == self.tail.capacity() {
            self.grow()
        } else {
            0
        };
        self.tail.push(value);
        self.len += 1;
        grown
    }

    /// Adds values; returns the number of bytes by which the list has grown.
    pub(crate) fn extend(&mut self, mut values: &[T]) -> usize {
        let mut grown = 0;
        while !values.is_empty() {
            if self.tail.len() == self.tail.capacity() {
                grown += self.grow();
            }
            let (fitting, rest) = values.split_at(values.len().min(self.tail.capacity() - self.tail.len()));
            self.tail.extend_from_slice(fitting);
            self.len += fitting.len();
            values = rest;
        }
        grown
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn last_mut(&mut self) -> Option<&mut T> {
        self.tail.last_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        self.full.iter().flatten().chain(&self.tail).copied()
    }

    /// Returns the values by moving them out. Each chunk is freed after its last value.
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.full.into_iter().flatten().chain(self.tail)
    }

    /// Returns the size of the list on the heap, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let values: usize = self.full.iter().chain([&self.tail]).map(Vec::capacity).sum();
        values * size_of::<T>() + self.full.capacity() * size_of::<Vec<T>>()
    }

    #[cold]
    fn grow(&mut self) -> usize {
        let listed = self.full.capacity();
        let capacity = self.len.clamp(FIRST / size_of::<T>(), LARGEST / size_of::<T>());
        let tail = mem::replace(&mut self.tail, Vec::with_capacity(capacity));
        if !tail.is_empty() {
            self.full.push(tail);
        }
        self.tail.capacity() * size_of::<T>() + (self.full.capacity() - listed) * size_of::<Vec<T>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_and_extend_report_growth_to_the_byte() {
        let mut list = ChunkedList::default();
        let mut bytes = 0;
        for value in 0..20_000_u64 {
            bytes += list.push(value);
            assert_eq!(bytes, list.bytes());
            assert!(
                bytes <= 128 + 2 * 8 * list.len() + 24 * (4 + list.len() / 16),
                "{bytes}"
            );
        }
        assert!(list.iter().eq(0..20_000));
        let mut extended = ChunkedList::default();
        for values in (0..20_000_u64).collect::<Vec<_>>().chunks(31) {
            extended.extend(values);
        }
        assert!(extended.iter().eq(list.iter()));
        assert_eq!(extended.bytes(), bytes);
        assert!(list.into_values().eq(0..20_000));
        assert!(bytes < 20_000 * 8 + LARGEST + 1024, "{bytes}");
    }
}
