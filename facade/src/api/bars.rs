//! Bars, and the iterators that show or time a loop.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::logger::bars::BarState;
use crate::run::ledger::{Ledger, PhaseId};

/// A bar on the terminal that counts no steps and has no samples, for instance over the epochs of a
/// training. Made by [`UnifiedLogger::bar`](crate::UnifiedLogger::bar).
///
/// A clone is the same bar, also on another thread. The bar ends when the last clone is dropped, or
/// with the logger, which it does not keep open. Without the feature `progress`, or with
/// `enable_progress` off, it does nothing.
#[derive(Clone)]
#[must_use = "the bar ends when this value is dropped"]
pub struct Bar(Option<Arc<BarState>>);

impl Bar {
    pub(crate) fn new(state: Option<Arc<BarState>>) -> Self {
        Self(state)
    }

    /// Advances the bar by `n` units.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// let files = logger.bar(8, "Files");
    /// std::thread::scope(|scope| {
    ///     for _ in 0..8 {
    ///         scope.spawn(|| files.advance(1));
    ///     }
    /// });
    /// drop(files);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[inline]
    pub fn advance(&self, n: u64) {
        if let Some(state) = &self.0 {
            state.advance(n);
        }
    }

    fn end(&self) {
        if let Some(state) = &self.0 {
            state.end();
        }
    }
}

impl fmt::Debug for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bar").finish_non_exhaustive()
    }
}

/// An iterator with a bar. Made by [`UnifiedLogger::track`](crate::UnifiedLogger::track).
///
/// An item is counted when the next one is asked for, because then the work on it is done. The bar
/// ends after the last item, or when the iterator is dropped.
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy"]
pub struct Track<I> {
    items: I,
    bar: Bar,
    /// `true` while an item is at work.
    is_at_work: bool,
}

impl<I> Track<I> {
    pub(crate) fn new(items: I, bar: Bar) -> Self {
        Self {
            items,
            bar,
            is_at_work: false,
        }
    }

    #[inline]
    fn take_with<T>(&mut self, take: impl FnOnce(&mut I) -> Option<T>) -> Option<T> {
        if self.is_at_work {
            self.bar.advance(1);
        }
        let item = take(&mut self.items);
        self.is_at_work = item.is_some();
        if item.is_none() {
            self.bar.end();
        }
        item
    }
}

impl<I: Iterator> Iterator for Track<I> {
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<I::Item> {
        self.take_with(I::next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl<I: DoubleEndedIterator> DoubleEndedIterator for Track<I> {
    #[inline]
    fn next_back(&mut self) -> Option<I::Item> {
        self.take_with(I::next_back)
    }
}

impl<I: ExactSizeIterator> ExactSizeIterator for Track<I> {}
impl<I: FusedIterator> FusedIterator for Track<I> {}

/// An iterator whose time counts as waiting for data. Made by
/// [`UnifiedLogger::data`](crate::UnifiedLogger::data).
#[derive(Clone)]
#[must_use = "iterators are lazy"]
pub struct Data<I> {
    items: I,
    ledger: Option<Arc<Ledger>>,
}

impl<I> Data<I> {
    pub(crate) fn new(items: I, ledger: Option<Arc<Ledger>>) -> Self {
        Self { items, ledger }
    }

    #[inline]
    fn take_with<T>(&mut self, take: impl FnOnce(&mut I) -> Option<T>) -> Option<T> {
        let _waiting = self.ledger.as_deref().map(DataWait::begin);
        take(&mut self.items)
    }
}

impl<I: Iterator> Iterator for Data<I> {
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<I::Item> {
        self.take_with(I::next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl<I: DoubleEndedIterator> DoubleEndedIterator for Data<I> {
    #[inline]
    fn next_back(&mut self) -> Option<I::Item> {
        self.take_with(I::next_back)
    }
}

impl<I: ExactSizeIterator> ExactSizeIterator for Data<I> {}
impl<I: FusedIterator> FusedIterator for Data<I> {}

impl<I: fmt::Debug> fmt::Debug for Data<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Data").field(&self.items).finish()
    }
}

/// A wait for data, which may end by a panic of the iterator.
struct DataWait<'a> {
    ledger: &'a Ledger,
    phase: PhaseId,
}

impl<'a> DataWait<'a> {
    #[inline]
    fn begin(ledger: &'a Ledger) -> Self {
        let phase = ledger.enter(Ledger::DATA);
        Self { ledger, phase }
    }
}

impl Drop for DataWait<'_> {
    #[inline]
    fn drop(&mut self) {
        self.ledger.leave(self.phase);
    }
}

/// A phase of the run, until this value is dropped. Made by
/// [`UnifiedLogger::phase`](crate::UnifiedLogger::phase).
///
/// A phase belongs to its thread, so that the value cannot be sent to another one.
#[must_use = "the phase ends when this value is dropped"]
pub struct Phase {
    entered: Option<(Arc<Ledger>, PhaseId)>,
    _of_its_thread: PhantomData<*const ()>,
}

impl Phase {
    pub(crate) fn enter(name: &str, ledger: Option<Arc<Ledger>>) -> Self {
        Self::begin(ledger, |ledger| ledger.enter_named(name))
    }

    pub(crate) fn enter_idle(ledger: Option<Arc<Ledger>>) -> Self {
        Self::begin(ledger, |ledger| ledger.enter(Ledger::IDLE))
    }

    fn begin(ledger: Option<Arc<Ledger>>, enter: impl FnOnce(&Ledger) -> PhaseId) -> Self {
        let entered = ledger.map(|ledger| {
            let phase = enter(&ledger);
            (ledger, phase)
        });
        Self {
            entered,
            _of_its_thread: PhantomData,
        }
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        if let Some((ledger, phase)) = &self.entered {
            ledger.leave(*phase);
        }
    }
}

impl fmt::Debug for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Phase").finish_non_exhaustive()
    }
}
