//! Writes a report of the runs in a `log_dir`:
//! `cargo run -p logcore-runs --features report --example report LOG_DIR PAGE`.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use logcore_runs::list_runs;
use logcore_runs::report::write_report;

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = env::args().skip(1).collect();
    let [log_dir, page] = &paths[..] else {
        return Err("cannot write a report: name a log_dir and the page to write".into());
    };
    let list = list_runs(Path::new(log_dir))?;
    write_report(&list.runs, &mut BufWriter::new(File::create(page)?))?;
    Ok(())
}
