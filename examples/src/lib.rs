//! Programs to copy: see `src/bin`.
