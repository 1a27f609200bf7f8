//! The parts of the expansion of [`info!`](crate::info) and its siblings. No interface for
//! programs.

use std::fmt::Arguments;
use std::panic::Location;

use logcore::log::{Level, Log, Record};
use logcore_pipeline::DeferredType;
pub use logcore_pipeline::{DeferredArgument, DeferredMessage};

use crate::UnifiedLogger;

/// The message of a call: for the writer, which formats it if it can, and formatted.
#[derive(Debug)]
pub struct Message<'a> {
    /// The literal, if its formatting can wait.
    pub deferred: Option<DeferredMessage>,
    /// The arguments for the literal.
    pub arguments: &'a [DeferredArgument<'a>],
    /// The formatted message.
    pub formatted: Arguments<'a>,
}

impl Message<'_> {
    #[track_caller]
    #[inline]
    fn with_record(&self, level: Level, module: &'static str, log: impl FnOnce(&Record<'_>)) {
        let site = Location::caller();
        log(&Record::builder()
            .args(self.formatted)
            .level(level)
            .target(module)
            .module_path_static(Some(module))
            .file_static(Some(site.file()))
            .line(Some(site.line()))
            .build());
    }
}

/// The logger of a call. Only a [`UnifiedLogger`] has an inherent method, which goes before that of
/// [`AnyLogger`].
#[derive(Debug)]
pub struct Logger<'a, L: ?Sized>(pub &'a L);

impl Logger<'_, UnifiedLogger> {
    /// Logs a message.
    #[track_caller]
    pub fn log_call(&self, level: Level, module: &'static str, message: &Message<'_>) {
        message.with_record(level, module, |record| self.0.log_deferred(record, message));
    }
}

impl Logger<'_, &UnifiedLogger> {
    /// Logs a message.
    #[track_caller]
    #[inline]
    pub fn log_call(&self, level: Level, module: &'static str, message: &Message<'_>) {
        Logger(*self.0).log_call(level, module, message);
    }
}

/// Any other logger, which gets the formatted message.
pub trait AnyLogger {
    /// Logs a message.
    fn log_call(&self, level: Level, module: &'static str, message: &Message<'_>);
}

impl<L: Log + ?Sized> AnyLogger for Logger<'_, L> {
    #[track_caller]
    fn log_call(&self, level: Level, module: &'static str, message: &Message<'_>) {
        message.with_record(level, module, |record| self.0.log(record));
    }
}

/// An argument of a call. `(&Argument(&value)).deferred_argument()` is the method of
/// [`KnownArgument`] if the type has it, and otherwise that of [`OtherArgument`], which takes one
/// more reference.
#[derive(Debug)]
pub struct Argument<'a, T: ?Sized>(pub &'a T);

/// An argument of a type that a frame can hold.
pub trait KnownArgument {
    /// Returns the value.
    fn deferred_argument(&self) -> DeferredArgument<'_>;
}

impl<T: Deferrable + ?Sized> KnownArgument for Argument<'_, T> {
    #[inline]
    fn deferred_argument(&self) -> DeferredArgument<'_> {
        self.0.value()
    }
}

/// An argument of any other type.
pub trait OtherArgument {
    /// Returns that it is of another type.
    fn deferred_argument(&self) -> DeferredArgument<'_>;
}

impl<T: ?Sized> OtherArgument for &Argument<'_, T> {
    #[inline]
    fn deferred_argument(&self) -> DeferredArgument<'_> {
        DeferredArgument::Other
    }
}

/// A type whose values a frame can hold.
pub trait Deferrable {
    /// Returns the value.
    fn value(&self) -> DeferredArgument<'_>;
}

impl<T: Deferrable + ?Sized> Deferrable for &T {
    #[inline]
    fn value(&self) -> DeferredArgument<'_> {
        T::value(self)
    }
}

impl Deferrable for str {
    #[inline]
    fn value(&self) -> DeferredArgument<'_> {
        DeferredArgument::Text(self)
    }
}

impl Deferrable for String {
    #[inline]
    fn value(&self) -> DeferredArgument<'_> {
        DeferredArgument::Text(self)
    }
}

macro_rules! implement_deferrable {
    ($($type:ty: |$value:ident| $argument:expr;)+) => {$(
        impl Deferrable for $type {
            #[inline]
            fn value(&self) -> DeferredArgument<'_> {
                let $value = *self;
                $argument
            }
        }
    )+};
}

implement_deferrable! {
    bool: |value| DeferredArgument::Bits(DeferredType::Bool, u64::from(value));
    char: |value| DeferredArgument::Bits(DeferredType::Char, u64::from(u32::from(value)));
    i8: |value| DeferredArgument::Bits(DeferredType::I8, value as u64);
    i16: |value| DeferredArgument::Bits(DeferredType::I16, value as u64);
    i32: |value| DeferredArgument::Bits(DeferredType::I32, value as u64);
    i64: |value| DeferredArgument::Bits(DeferredType::I64, value as u64);
    isize: |value| DeferredArgument::Bits(SIGNED_WORD, value as u64);
    i128: |value| DeferredArgument::I128([value as u64, (value >> 64) as u64]);
    u8: |value| DeferredArgument::Bits(DeferredType::U8, u64::from(value));
    u16: |value| DeferredArgument::Bits(DeferredType::U16, u64::from(value));
    u32: |value| DeferredArgument::Bits(DeferredType::U32, u64::from(value));
    u64: |value| DeferredArgument::Bits(DeferredType::U64, value);
    usize: |value| DeferredArgument::Bits(DeferredType::U64, value as u64);
    u128: |value| DeferredArgument::U128([value as u64, (value >> 64) as u64]);
    f32: |value| DeferredArgument::Bits(DeferredType::F32, u64::from(value.to_bits()));
    f64: |value| DeferredArgument::Bits(DeferredType::F64, value.to_bits());
}

/// The type with the digits that a negative `isize` has in hexadecimal.
const SIGNED_WORD: DeferredType = match size_of::<isize>() {
    8 => DeferredType::I64,
    4 => DeferredType::I32,
    _ => DeferredType::I16,
};
