//! What each launch of one token moves, as a table of tab-separated fields: the model's own forward pass on the emulator.
//!
//!     cargo run --example traffic -- MODEL.gguf > LAUNCHES.tsv

use coder_engine::{Device, Options, probe};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args_os().nth(1).ok_or("give a GGUF file")?;
    let mut options = Options::new(std::path::PathBuf::from(model));
    (options.device, options.library, options.graphs) =
        (Device::Cuda, Some(coder_cuda_emulator::library()), false);
    let (logits, launches) = coder_cuda_emulator::counted(|| probe::logits(&options, &[1], None));
    logits?;
    println!("name\tblocks\tthreads\tread_bytes\twritten_bytes\tread_by_blocks_bytes\tloaded_bytes");
    for t in launches {
        println!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}",
            t.name,
            t.blocks,
            t.threads,
            t.read_bytes,
            t.written_bytes,
            t.read_by_blocks_bytes,
            t.loaded_bytes
        );
    }
    Ok(())
}
