//! Compiles the fake libraries.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `fake_<of>.rs` to a library of this path, whose file name is also its soname.
pub(crate) fn compile(of: &str, cfgs: &[&str], library: &Path) {
    let soname = library.file_name().expect("it is a file").to_string_lossy();
    let mut command = Command::new(rustc());
    command.args(["--edition", "2024", "-O", "--crate-type", "cdylib", "--crate-name"]);
    command.arg(format!("fake_{of}"));
    command.args(cfgs.iter().flat_map(|cfg| ["--cfg", cfg]));
    if cfg!(target_os = "linux") {
        command.arg("-C").arg(format!("link-arg=-Wl,-soname,{soname}"));
    }
    command.arg("-o").arg(library);
    command.arg(sources().join(format!("fake_{of}.rs")));
    let output = command.output().expect("rustc can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Returns the folder of the sources, from any package of this workspace.
fn sources() -> PathBuf {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut sources = folders.map(|folder| folder.join("gpu/tests/support"));
    sources
        .find(|folder| folder.is_dir())
        .expect("gpu/tests/support is there")
}

/// Returns the compiler of the cargo that runs this test.
fn rustc() -> PathBuf {
    match std::env::var_os("RUSTC") {
        Some(rustc) => rustc.into(),
        None => Path::new(env!("CARGO")).with_file_name(format!("rustc{}", std::env::consts::EXE_SUFFIX)),
    }
}
