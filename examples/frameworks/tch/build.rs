//! Builds the shim against the libtorch that torch-sys has found, and links the whole library.

use std::env;
use std::path::PathBuf;

fn main() {
    if cfg!(feature = "doc-only") {
        return;
    }
    println!("cargo:rerun-if-changed=src/shim.cpp");
    // torch-sys sets this variable; the package depends on it only for that.
    let libraries = env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys sets DEP_TCH_LIBTORCH_LIB");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(PathBuf::from(&libraries).with_file_name("include"))
        .warnings(false)
        .file("src/shim.cpp")
        .compile("torch_memory_shim");
    // Without this the linker drops libtorch_cuda, because the program uses none of its symbols,
    // and tch finds no GPU.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libraries}");
    println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
    println!("cargo:rustc-link-arg=-ltorch");
}
