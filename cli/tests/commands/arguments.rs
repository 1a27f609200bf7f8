//! Arguments: those that shells complete, and those that are refused.

use crate::common::{json, logcore, text};
use crate::support::{assert_refused, runs};

#[test]
fn completions_name_the_commands() {
    let folder = runs();
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&logcore(folder.path(), &["completions", shell]));
        assert!(script.contains("compare") && script.contains("export"), "{shell}");
    }
}

#[test]
fn wrong_arguments_and_missing_runs_are_errors_with_remedies() {
    let folder = runs();
    for (arguments, part) in [
        (&["show", "nothing"][..], "`latest`"),
        (&["ls", "nowhere"], "nowhere"),
        (&["ls", "--where", "colour = red"], "config.NAME"),
        (
            &["ls", "--where", "state", "==", "killed"],
            "`==` is no operator. Write =",
        ),
        // The shell has taken `> 0.1`.
        (&["ls", "--where", "config.lr"], "in quotes: --where"),
        (&["ls", "--sort", "summary.loss"], ".last"),
        (&["export", "one"], "--to"),
        (
            &["export", "one", "--to", "csv", "--rank", "7"],
            "It has those of rank 0",
        ),
        (&["repair", "nowhere"], "Name one"),
    ] {
        assert_refused(folder.path(), arguments, part);
    }
    let failed = json(folder.path(), &["show", "nothing"]);
    assert!(
        failed["problems"][0]["error"].as_str().unwrap().contains("nothing"),
        "{failed}"
    );
}
