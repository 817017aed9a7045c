//! What this machine is made of, as far as it matters to a model.

use std::fs;

use coder_kernels::Error;
use coder_kernels::cuda::{Card, Library};
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
        "sse4.2",
        "avx",
        "avx2",
        "fma",
        "f16c",
        "avxvnni",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512vnni",
        "avx512bf16",
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

/// The cards, or why there are none.
#[derive(Debug, Serialize)]
pub(crate) struct Cuda {
    /// Whether this program has kernels for them.
    built_in: bool,
    /// Why none can be used.
    error: Option<String>,
    devices: Vec<Device>,
}

/// A card, or why it cannot be used.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Device {
    Works {
        name: String,
        capability: String,
        multiprocessors: usize,
        total_bytes: u64,
        free_bytes: u64,
        driver: String,
        runtime: String,
        memory_gb_s: Option<f64>,
    },
    Fails {
        error: String,
    },
}

impl Cuda {
    /// This machine's.
    pub(crate) fn detect() -> Self {
        let Some(library) = Library::linked() else {
            return Self { built_in: false, error: None, devices: Vec::new() };
        };
        Self::of(library.count().map(|count| (0..count).map(|index| library.card(index)).collect()))
    }

    fn of(cards: Result<Vec<Result<Card, Error>>, Error>) -> Self {
        let built_in = true;
        match cards {
            Err(Error::NoDriver) => {
                Self { built_in, error: Some("no CUDA driver".to_string()), devices: Vec::new() }
            }
            Err(error) => Self { built_in, error: Some(error.to_string()), devices: Vec::new() },
            Ok(cards) => {
                let none = cards.is_empty().then(|| "no card".to_string());
                Self { built_in, error: none, devices: cards.into_iter().map(Device::of).collect() }
            }
        }
    }

    /// Whether a model can run on one.
    pub(crate) fn works(&self) -> bool {
        self.devices.iter().any(|device| matches!(device, Device::Works { .. }))
    }

    /// For people, one line for each card.
    pub(crate) fn lines(&self) -> Vec<String> {
        match (&self.error, self.built_in) {
            (_, false) => vec!["not built in".to_string()],
            (Some(error), _) => vec![error.clone()],
            _ => self.devices.iter().map(Device::line).collect(),
        }
    }
}

impl Device {
    fn of(card: Result<Card, Error>) -> Self {
        match card {
            Err(error) => Device::Fails { error: error.to_string() },
            Ok(card) => Device::Works {
                name: card.name,
                capability: card.capability.to_string(),
                multiprocessors: card.multiprocessors,
                total_bytes: card.total_bytes,
                free_bytes: card.free_bytes,
                driver: card.driver.to_string(),
                runtime: card.runtime.to_string(),
                memory_gb_s: card.memory_bytes_per_s.map(|bytes| bytes / 1e9),
            },
        }
    }

    fn line(&self) -> String {
        match self {
            Device::Fails { error } => error.clone(),
            Device::Works {
                name, capability, total_bytes, free_bytes, driver, runtime, memory_gb_s, ..
            } => {
                let gib = |bytes: &u64| *bytes as f64 / f64::from(1 << 30);
                let bus = memory_gb_s.map_or(String::new(), |rate| format!(" at {rate:.0} GB/s"));
                format!(
                    "{name}, capability {capability}, {:.1} GiB{bus}, {:.1} GiB free, driver {driver}, runtime {runtime}",
                    gib(total_bytes),
                    gib(free_bytes)
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coder_kernels::Version;

    #[test]
    fn cards_and_their_absence_are_told_apart() {
        let version = |major, minor| Version { major, minor };
        let card = Card {
            name: "NVIDIA GeForce RTX 4090".to_string(),
            capability: version(8, 9),
            multiprocessors: 128,
            driver: version(12, 8),
            runtime: version(12, 4),
            total_bytes: 24 << 30,
            free_bytes: 23 << 30,
            memory_bytes_per_s: Some(1008e9),
        };
        let old =
            Error::DeviceTooOld { name: "GTX".to_string(), found: version(6, 1), needed: version(8, 0) };
        let cuda = Cuda::of(Ok(vec![Ok(card), Err(old)]));
        assert!(cuda.works());
        assert_eq!(
            cuda.lines()[0],
            "NVIDIA GeForce RTX 4090, capability 8.9, 24.0 GiB at 1008 GB/s, 23.0 GiB free, driver 12.8, runtime 12.4"
        );
        assert!(cuda.lines()[1].contains("`6.1`") && cuda.lines()[1].contains("`8.0`"));
        let json = serde_json::to_value(&cuda).unwrap();
        assert_eq!(json["devices"][0]["total_bytes"], 24u64 << 30);
        assert!(json["devices"][1]["error"].is_string());
        assert_eq!(Cuda::of(Err(Error::NoDriver)).lines(), ["no CUDA driver"]);
        let old = Error::DriverTooOld { found: version(11, 4), needed: version(12, 4) };
        assert!(Cuda::of(Err(old)).lines()[0].contains("`11.4`"));
        assert_eq!(Cuda::of(Ok(Vec::new())).lines(), ["no card"]);
    }

    #[test]
    fn proc_files_are_understood() {
        assert_eq!(processor_name("processor\t: 0\nmodel name\t: A B @ 2\n").as_deref(), Some("A B @ 2"));
    }
}
