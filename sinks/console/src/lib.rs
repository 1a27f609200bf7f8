//! The terminal as a logcore sink: coloured lines, bars, plain lines where there is no terminal.
