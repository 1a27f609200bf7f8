//! A logcore sink that keeps what it gets in memory, for the tests of programs that log.
