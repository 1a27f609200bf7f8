//! Recovery: delivers the frames that a killed process has left in its ring.

pub(crate) mod recover;
