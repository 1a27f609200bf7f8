//! A text file as a logcore sink: append, rotation by size and by day.
