//! Compiles the kernels as C++, with a call before each access to memory, and the emulator that answers those calls.

use std::path::PathBuf;

/// What the emulator itself consists of.
const EMULATOR: [&str; 7] =
    ["access.cpp", "context.cpp", "fibers.cpp", "memory.cpp", "products.cpp", "traffic.cpp", "undefined.cpp"];

/// What the kernels are compiled with, as far as the compiler knows it: accesses as they are written, each a call.
const KERNEL_FLAGS: [&str; 10] = [
    "-fsanitize=thread",
    "-fsanitize=alignment,bounds,shift-exponent,integer-divide-by-zero",
    "--param=tsan-instrument-func-entry-exit=0",
    "-fno-exceptions",
    // Loops that become a call of memset or memcpy, or vectors, are no longer the accesses that a card would make.
    "-fno-tree-loop-distribute-patterns",
    "-fno-tree-vectorize",
    "-fno-tree-slp-vectorize",
    "-fno-vectorize",
    "-fno-slp-vectorize",
    "-Wno-sign-compare",
];

fn compiler() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).define("CODER_EMULATOR", None).include("..").include(".");
    build.flag("-ffp-contract=off").flag_if_supported("-Wno-unknown-pragmas");
    build
}

fn main() {
    let mut kernels: Vec<PathBuf> = std::fs::read_dir("..")
        .expect("the folder of the kernels")
        .map(|entry| entry.expect("a file of the kernels").path())
        .filter(|path| path.extension().is_some_and(|e| e == "cu") && !path.ends_with("context.cu"))
        .collect();
    kernels.extend(["planted.cu".into(), "planted_products.cu".into()]);
    kernels.sort();

    let mut kernel = compiler();
    kernel.flag("-x").flag("c++").files(&kernels);
    for flag in KERNEL_FLAGS {
        kernel.flag_if_supported(flag);
    }
    let objects = kernel.compile_intermediates();
    // One library, as either half needs the other.
    compiler().opt_level(3).files(EMULATOR).objects(objects).compile("coder_cuda_emulator");

    // The whole folder: headers too, and kernels that are yet to come.
    println!("cargo::rerun-if-changed=..");
}
