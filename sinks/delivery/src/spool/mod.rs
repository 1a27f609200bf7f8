//! Spools on disk: the position of a delivery, and the lock that makes sure that there is one.

mod line_mark;
mod lock;
mod position_file;

pub use self::line_mark::LineMark;
pub use self::lock::lock_delivery;
pub use self::position_file::{load_position, save_position};
