//! What this machine is made of, as far as it matters to a model.

use std::fs;

use serde::Serialize;

/// The processor.
#[derive(Debug, Serialize)]
pub(crate) struct Processor {
    /// As it calls itself, if it does.
    pub(crate) name: Option<String>,
    /// Threads that may run at once.
    pub(crate) threads: usize,
    /// Vector instruction sets.
    pub(crate) features: Vec<&'static str>,
}

impl Processor {
    /// This machine's.
    pub(crate) fn detect() -> Self {
        Self {
            name: fs::read_to_string("/proc/cpuinfo").ok().as_deref().and_then(processor_name),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            features: features(),
        }
    }
}

fn processor_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    macro_rules! present {
        ($($name:tt),*) => { [$(($name, std::is_x86_feature_detected!($name))),*] };
    }
    let all = present!(
        "sse4.2", "avx", "avx2", "fma", "f16c", "avxvnni", "avx512f", "avx512bw", "avx512vl", "avx512vnni", "avx512bf16",
        "avx512fp16"
    );
    all.into_iter().filter(|(_, present)| *present).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    macro_rules! present {
        ($($name:tt),*) => { [$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    let all = present!("neon", "fp16", "dotprod", "i8mm", "bf16", "sve");
    all.into_iter().filter(|(_, present)| *present).map(|(name, _)| name).collect()
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

/// Main memory in bytes, where the system tells (Linux).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Memory {
    /// All of it.
    pub(crate) total_bytes: u64,
    /// What a new program can have without swapping.
    pub(crate) available_bytes: u64,
}

impl Memory {
    /// This machine's.
    pub(crate) fn detect() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/meminfo").ok()?)
    }

    fn parse(meminfo: &str) -> Option<Self> {
        let field = |name: &str| -> Option<u64> {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self { total_bytes: field("MemTotal:")?, available_bytes: field("MemAvailable:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        let memory = Memory::parse("MemTotal:       24609284 kB\nMemFree: 1 kB\nMemAvailable:   22000000 kB\n");
        assert_eq!(memory, Some(Memory { total_bytes: 24609284 << 10, available_bytes: 22000000 << 10 }));
        assert_eq!(Memory::parse("MemTotal: lots\n"), None);
        assert_eq!(processor_name("processor\t: 0\nmodel name\t: A B @ 2\n").as_deref(), Some("A B @ 2"));
    }
}
