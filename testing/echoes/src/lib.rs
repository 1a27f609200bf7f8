//! Lines of programs that use `tracing`; see the tests.
