//! Builds the shim against the libtorch that torch-sys has found, and has the program load all of it.

use std::env;
use std::path::PathBuf;

fn main() {
    if cfg!(feature = "doc-only") {
        return;
    }
    println!("cargo:rerun-if-changed=src/shim.cpp");
    // Told by torch-sys, on which this package depends only for that.
    let libraries = env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys tells where libtorch is");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(PathBuf::from(&libraries).with_file_name("include"))
        .warnings(false)
        .file("src/shim.cpp")
        .compile("torch_memory_shim");
    // Without this the linker leaves libtorch_cuda out, since no symbol of it is named, and tch sees no GPU.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libraries}");
    println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
    println!("cargo:rustc-link-arg=-ltorch");
}
