//! One owner for each file that logcore sinks append to: rotation, reopening, trouble with the disk.
