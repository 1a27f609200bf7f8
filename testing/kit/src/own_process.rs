//! Tests that need a process of their own, because the global logger, the panic hook and signal
//! handlers exist once a process.

use std::env;
use std::process::Command;

/// Names the test that this process is for.
const TEST: &str = "TESTKIT_OWN_PROCESS";

/// Runs the rest of a test in a process of its own, with `cargo test` as with `cargo nextest`:
/// stands in the first line of the test.
///
/// ```text
/// #[test]
/// fn global_logger_is_set_once() {
///     testkit::own_process!();
///     // …
/// }
/// ```
///
/// # Panics
///
/// If the test fails in its process.
#[macro_export]
macro_rules! own_process {
    () => {{
        fn here() {}
        if !$crate::runs_in_own_process(std::any::type_name_of_val(&here)) {
            return;
        }
    }};
}

/// Returns `true` in the process that belongs to the test alone. Otherwise starts this process,
/// waits for its end and returns `false`. `here` is the path of a function within the test.
///
/// # Panics
///
/// If the test fails in its process.
#[doc(hidden)]
#[must_use]
pub fn runs_in_own_process(here: &str) -> bool {
    let is_nextest = env::var("NEXTEST_EXECUTION_MODE").is_ok_and(|mode| mode == "process-per-test");
    let test = test_name(here);
    if is_nextest || env::var(TEST).is_ok_and(|wanted| wanted == test) {
        return true;
    }
    let output = Command::new(env::current_exe().expect("the test program has a path"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(TEST, test)
        .output()
        .expect("the test program starts again");
    assert!(
        // A name that matches no test ends with success, too.
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{test} failed in its own process: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// Returns the name that the test harness knows a test by: `program::module::test::here` without
/// the first and the last part.
fn test_name(here: &str) -> &str {
    let without_program = here.split_once("::").map_or(here, |(_, rest)| rest);
    without_program
        .rsplit_once("::")
        .map_or(without_program, |(test, _)| test)
}

#[cfg(test)]
mod tests {
    use super::test_name;

    #[test]
    fn test_name_has_neither_program_nor_inner_function() {
        assert_eq!(test_name("global::levels::are_kept::here"), "levels::are_kept");
        assert_eq!(test_name("global::are_kept::here"), "are_kept");
    }

    #[test]
    fn own_process_macro_runs_the_test_elsewhere() {
        crate::own_process!();
        // The environment of the outer process would still hold this.
        assert!(std::env::var(super::TEST).is_ok() || std::env::var("NEXTEST_EXECUTION_MODE").is_ok());
    }
}
