//! Plain, coloured, JSON and logfmt lines for logcore.
