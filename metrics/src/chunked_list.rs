//! A growing list that is compact while it is short and never copied while it is long.

use std::mem;

/// A list in chunks. Each new chunk is as long as all before it, up to [`LARGEST`], so no more than half is ever unused,
/// and of a long list less than a chunk.
#[derive(Debug)]
pub(crate) struct ChunkedList<T> {
    full: Vec<Vec<T>>,
    tail: Vec<T>,
    len: usize,
}

/// The first chunk, in bytes: sixteen doubles. Most metrics of a run with thousands of them have few values.
const FIRST: usize = 128;

/// The largest chunk, in bytes: 4096 doubles.
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
    /// Adds a value; returns by how many bytes the list has grown, which is mostly 0.
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

    /// Adds values; returns by how many bytes the list has grown.
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

    /// The values; each chunk is freed when its last value has been taken.
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.full.into_iter().flatten().chain(self.tail)
    }

    /// What the list has on the heap.
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
    fn growth_is_reported_to_the_byte() {
        let mut column = ChunkedList::default();
        let mut bytes = 0;
        for value in 0..20_000_u64 {
            bytes += column.push(value);
            assert_eq!(bytes, column.bytes());
            assert!(
                bytes <= 128 + 2 * 8 * column.len() + 24 * (4 + column.len() / 16),
                "{bytes}"
            );
        }
        assert!(column.iter().eq(0..20_000));
        let mut extended = ChunkedList::default();
        for values in (0..20_000_u64).collect::<Vec<_>>().chunks(31) {
            extended.extend(values);
        }
        assert!(extended.iter().eq(column.iter()));
        assert_eq!(extended.bytes(), bytes);
        assert!(column.into_values().eq(0..20_000));
        assert!(bytes < 20_000 * 8 + LARGEST + 1024, "{bytes}");
    }
}
