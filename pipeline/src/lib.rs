//! The ring between callers and the writer, and the writer itself, for logcore.
