//! The lock that makes sure that a spool has one delivery.

use std::fs::File;
use std::time::Duration;

use logcore::files::lock_within;

use crate::error::{DeliveryError, DeliveryErrorKind};

/// Time to wait for the lock of another delivery.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Locks a file of a delivery until the file is closed, so that no other delivery of the same spool
/// runs meanwhile, in this process or another one. Waits for two seconds at most, because a stopped
/// delivery of this process needs a moment to end. A file system without locks is no reason to
/// refuse.
///
/// ```
/// use logcore_delivery::{DeliveryErrorKind, lock_delivery};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("mlflow.lock");
/// let first = std::fs::File::create(&path).unwrap();
/// lock_delivery(&first).unwrap();
/// let second = std::fs::File::create(&path).unwrap();
/// assert_eq!(lock_delivery(&second).unwrap_err().kind(), DeliveryErrorKind::InUse);
/// drop(first);
/// lock_delivery(&second).unwrap();
/// ```
///
/// # Errors
///
/// [`DeliveryErrorKind::InUse`] if another delivery has the lock.
pub fn lock_delivery(file: &File) -> Result<(), DeliveryError> {
    match lock_within(file, LONGEST_WAIT) {
        Ok(false) => Err(DeliveryError::permanent(
            DeliveryErrorKind::InUse,
            "another delivery of the same log is running",
        )),
        Ok(true) | Err(_) => Ok(()),
    }
}
