//! JSON lines as a logcore sink: a row a step, records, and the config of the run.
