//! Nothing: the package is there for its test, which is the facade's.
