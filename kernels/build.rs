//! With the feature `cuda`: compiles the kernels in cuda/ into one static library. Without it: nothing.

#[path = "cuda/nvcc.rs"]
#[allow(dead_code)] // the test that it is shared with asks for more
mod nvcc;

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    if let Err(problem) = cuda() {
        // The only way for a build script to say why it fails.
        eprintln!("error: feature `cuda`: {problem}");
        std::process::exit(1);
    }
}

fn cuda() -> Result<(), String> {
    println!("cargo:rerun-if-changed=cuda");
    for name in ["CUDA_HOME", "CUDA_PATH", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let variable = |name: &str| std::env::var(name).map_err(|e| format!("{name}: {e}"));
    let out = PathBuf::from(variable("OUT_DIR")?);
    let jobs = variable("NUM_JOBS")?.parse().unwrap_or(1);
    let toolkit = nvcc::Toolkit::find()?;
    let compiled = toolkit.compile(&nvcc::sources(Path::new("cuda"))?, &out, jobs)?;
    let library = out.join("libcoder_cuda.a");
    let _ = std::fs::remove_file(&library); // `ar` would keep objects of files that are gone
    let archive =
        Command::new("ar").arg("crs").arg(&library).args(compiled.iter().map(|(object, _)| object)).status();
    if !archive.is_ok_and(|status| status.success()) {
        return Err("`ar` could not make the library of kernels; install binutils".to_owned());
    }
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=static=coder_cuda");
    println!("cargo:rustc-link-search=native={}", toolkit.library_dir()?.display());
    println!("cargo:rustc-link-lib=static=cudart_static");
    for system in ["stdc++", "dl", "rt", "pthread"] {
        println!("cargo:rustc-link-lib={system}");
    }
    Ok(())
}
