//! `logcore man`: the pages for `man`.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use logcore::escape::to_one_line;
use serde_json::{Value, json};

use crate::arguments::{Arguments, ManArguments};
use crate::output::{Outcome, Output};

/// The name of the program, and of its page.
const PROGRAM: &str = "logcore";

pub(super) fn run(arguments: &ManArguments, output: &mut Output) -> Result<Outcome> {
    let mut program = Arguments::command();
    // Gives each command the options of the whole program, and the name of its page.
    program.build();
    let Some(folder) = &arguments.output else {
        let page = render(find(&program, arguments.page.as_deref())?)?;
        for line in String::from_utf8_lossy(&page).lines() {
            output.line(line);
        }
        return Ok(Outcome::Done);
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut files: Vec<Value> = Vec::new();
    for command in pages(&program) {
        let path = folder.join(format!("{}.1", name_of(command)));
        let written = write(&path, &render(command)?);
        written.with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.to_string_lossy();
        output.line(to_one_line(&path));
        files.push(json!({"path": path}));
    }
    output.member("files", files.into());
    Ok(Outcome::Done)
}

/// Returns the program and its commands.
fn pages(program: &Command) -> impl Iterator<Item = &Command> {
    let commands = program.get_subcommands().filter(|command| command.get_name() != "help");
    [program].into_iter().chain(commands)
}

/// Returns the name of a page: `logcore-ls`.
fn name_of(command: &Command) -> &str {
    command.get_display_name().unwrap_or(PROGRAM)
}

/// Returns the command whose page is wanted, or else the program.
fn find<'a>(program: &'a Command, page: Option<&str>) -> Result<&'a Command> {
    let Some(page) = page else {
        return Ok(program);
    };
    let found = pages(program).skip(1).find(|command| command.get_name() == page);
    found.with_context(|| {
        format!("cannot print the page of {page}: there is no such command. `logcore help` lists them")
    })
}

fn render(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let source = concat!("logcore ", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).source(source).render(&mut page)?;
    Ok(page)
}

/// Replaces a file by rename, and follows no link in its place.
fn write(path: &Path, page: &[u8]) -> io::Result<()> {
    logcore::files::replace(path, page)
}
