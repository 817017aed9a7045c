//! Whether a model runs on this machine: on its card, partly, on the processor, or not at all.
//!
//! The arithmetic is the engine's (`coder_engine::fit`), with the context that a model is opened with where none is asked for.

use coder_engine::fit::{self, Plan, Tensors};
use coder_engine::{HostMemory, Options, Result};
use coder_kernels::cuda::Library;
use serde::Serialize;

use crate::published::WORKSPACE_BYTES;

/// What models run on here.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    /// Of main memory, what is free; none where the system does not tell.
    memory: Option<u64>,
    /// Of the first card, what is free.
    card: Option<u64>,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fits {
    /// All of it, on the card.
    Card,
    /// Layers on the card, the others on the processor.
    Partly,
    /// On the processor.
    Cpu,
    /// There is not enough memory.
    No,
}

/// The answer with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fit {
    /// Where.
    pub(crate) fits: Fits,
    /// Layers on the card.
    pub(crate) card_layers: usize,
    /// All of them.
    pub(crate) layers: usize,
    /// Tokens of prompt and answer that it is opened with.
    pub(crate) context: usize,
    /// Memory that it takes with them, on the card and beside it.
    pub(crate) needed_bytes: u64,
}

impl Here {
    /// This machine, as it is now.
    pub(crate) fn look() -> Self {
        let card = Library::linked().and_then(|library| library.card(0).ok()).map(|card| card.free_bytes);
        Self { memory: HostMemory::detect().map(|memory| memory.available_bytes), card }
    }

    /// Whether these tensors fit; none where the system does not tell how much memory there is.
    pub(crate) fn fit(&self, tensors: Tensors<'_>) -> Result<Option<Fit>> {
        let Some(memory) = self.memory else { return Ok(None) };
        let config = tensors.config();
        let room = Options::new("").room(config)?;
        let plan = Plan::new(tensors, &room)?;
        let cache = 2 * (room.kv.row_bytes(config.heads) * config.layers * room.context) as u64;
        let alone = tensors.bytes()?.saturating_add(cache).saturating_add(WORKSPACE_BYTES);
        let answer = |fits, card_layers, needed_bytes| {
            Some(Fit { fits, card_layers, layers: config.layers, context: room.context, needed_bytes })
        };
        if let Some(card) = self.card.map(|free| fit::Memory::free(free, None)) {
            let layers = plan.most_layers(card);
            let bytes = plan.bytes(layers, card);
            let beside = bytes.host_weights.saturating_add(bytes.host_cache).saturating_add(WORKSPACE_BYTES);
            if layers > 0 && beside <= memory {
                let fits = if layers == config.layers { Fits::Card } else { Fits::Partly };
                return Ok(answer(fits, layers, bytes.card.saturating_add(beside)));
            }
        }
        Ok(answer(if alone <= memory { Fits::Cpu } else { Fits::No }, 0, alone))
    }
}

impl Fit {
    /// In a few words.
    pub(crate) fn words(&self) -> String {
        match self.fits {
            Fits::Card => "yes, on the card".to_string(),
            Fits::Partly => format!("{} of {} layers on the card", self.card_layers, self.layers),
            Fits::Cpu => "yes, on the CPU".to_string(),
            Fits::No => format!("no, needs {}", size(self.needed_bytes)),
        }
    }
}

/// Bytes as files are labelled: `4.7 GB`.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published;
    use coder_engine::FileType;

    #[test]
    fn a_model_goes_where_there_is_room() {
        let config = published::find("Qwen2.5-Coder-32B").unwrap().config();
        let tensors = Tensors::Mixed(&config, FileType::Q4_K_M);
        let fits = |memory: u64, card: Option<u64>| {
            let fit = Here { memory: Some(memory << 30), card: card.map(|gib| gib << 30) }
                .fit(tensors)
                .unwrap()
                .unwrap();
            (fit.fits, fit.card_layers > 0)
        };
        assert_eq!(fits(64, Some(32)), (Fits::Card, true));
        assert_eq!(fits(64, Some(16)), (Fits::Partly, true));
        assert_eq!(fits(64, None), (Fits::Cpu, false));
        assert_eq!(fits(64, Some(1)), (Fits::Cpu, false));
        assert_eq!(fits(16, None), (Fits::No, false));
        assert_eq!(Here { memory: None, card: None }.fit(tensors).unwrap(), None);
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!([size(999), size(12_345_678), size(4_683_073_184)], ["1.0 kB", "12.3 MB", "4.7 GB"]);
    }
}
