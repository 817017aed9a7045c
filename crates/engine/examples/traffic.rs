//! What each launch of a step moves, as a table of tab-separated fields: the model's own forward pass on the emulator.
//!
//!     cargo run --example traffic -- MODEL.gguf [ROWS [POSITIONS [f16 | q8_0]]] > LAUNCHES.tsv
//!
//! ROWS sequences (one, if nothing is said) get a token each, which sees POSITIONS positions (one), itself among them.

use coder_engine::{Device, KvType, Options, probe};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("give a GGUF file")?;
    let mut number = || arguments.next().map_or(Ok(1), |n| n.parse::<u32>());
    let (rows, positions) = (number()?, number()?);
    let behind = positions.checked_sub(1).ok_or("a token sees itself")?;
    let mut options = Options::new(std::path::PathBuf::from(model));
    options.kv = match arguments.next().as_deref() {
        None | Some("f16") => KvType::F16,
        Some("q8_0") => KvType::Q8_0,
        Some(other) => return Err(format!("no cache of type {other}").into()),
    };
    (options.device, options.library, options.graphs) =
        (Device::Cuda, Some(coder_cuda_emulator::library()), false);
    let tokens = (1..=rows).collect::<Vec<_>>();
    let (done, launches) = coder_cuda_emulator::counted(|| probe::step(&options, &tokens, behind as usize));
    done?;
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
