//! llama.cpp through its Rust bindings, and the checks that it was built as fast as it can be.

use std::ffi::CStr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_sys_2 as sys;

use crate::peer::Peer;

/// Rows of one step: llama.cpp's default for its micro-batch, and for both here.
const BATCH: usize = 512;

/// When llama.cpp uses its flash attention.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FlashAttention {
    /// As llama.cpp decides.
    Auto,
    On,
    Off,
}

/// How to run a model.
pub(crate) struct Settings {
    /// Tokens that there must be room for.
    pub(crate) context: usize,
    pub(crate) threads: usize,
    pub(crate) flash_attention: FlashAttention,
}

/// The loaded weights.
pub(crate) struct Weights {
    model: LlamaModel,
    backend: LlamaBackend, // after the model, because fields are dropped in this order
}

pub(crate) struct Llama<'a> {
    context: LlamaContext<'a>,
    /// What the cache holds.
    cached: Vec<LlamaToken>,
}

/// What llama.cpp says it was built with and runs on.
///
/// # Errors
/// A build that is slower than this processor allows, or that uses AMX.
pub(crate) fn system_info() -> Result<String> {
    // SAFETY: no preconditions; the null-terminated string lives until the next call, which
    // nothing else here makes, and is copied at once.
    let text = unsafe { CStr::from_ptr(sys::llama_print_system_info()) };
    let text = text.to_string_lossy().trim().trim_end_matches('|').trim_end().to_owned();
    let has = |name: &str| text.contains(&format!("{name} = 1"));
    let remedy = "run `cargo clean --release -p llama-cpp-sys-2` and build from within `benches/peers`, \
                  whose `.cargo/config.toml` has the compiler's flags";
    ensure!(!has("AMX_INT8"), "llama.cpp was built with AMX, which dies on many virtual machines; {remedy}");
    for name in missing(has) {
        bail!("llama.cpp was built without `{name}`, which this processor has; {remedy}");
    }
    Ok(text)
}

/// The instruction sets that this processor has and the build has not.
#[cfg(target_arch = "x86_64")]
fn missing(has: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let here = [
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("FMA", is_x86_feature_detected!("fma")),
        ("F16C", is_x86_feature_detected!("f16c")),
        ("AVX_VNNI", is_x86_feature_detected!("avxvnni")),
        ("AVX512", is_x86_feature_detected!("avx512f")),
        ("AVX512_VBMI", is_x86_feature_detected!("avx512vbmi")),
        ("AVX512_VNNI", is_x86_feature_detected!("avx512vnni")),
        ("AVX512_BF16", is_x86_feature_detected!("avx512bf16")),
    ];
    here.into_iter().filter(|&(name, present)| present && !has(name)).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn missing(_: impl Fn(&str) -> bool) -> Vec<&'static str> {
    Vec::new()
}

impl Weights {
    /// Maps the file and repacks what llama.cpp repacks by default. Its log is dropped unless `verbose`.
    pub(crate) fn open(model: &Path, verbose: bool) -> Result<Self> {
        let mut backend = LlamaBackend::init()?;
        if !verbose {
            backend.void_logs();
        }
        let model = LlamaModel::load_from_file(&backend, model, &LlamaModelParams::default())
            .with_context(|| format!("llama.cpp cannot open `{}`; `--verbose` shows why", model.display()))?;
        Ok(Self { backend, model })
    }

    pub(crate) fn vocab(&self) -> usize {
        self.model.n_vocab() as usize
    }

    /// A context with llama.cpp's defaults: keys and values in f16, its own scheduling of threads.
    pub(crate) fn context(&self, settings: &Settings) -> Result<Llama<'_>> {
        Ok(Llama { context: self.context_of(settings, 1)?, cached: Vec::new() })
    }

    /// The same for several sequences that share `settings.context` tokens.
    pub(crate) fn context_of(&self, settings: &Settings, sequences: usize) -> Result<LlamaContext<'_>> {
        let policy = match settings.flash_attention {
            FlashAttention::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
            FlashAttention::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            FlashAttention::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        };
        let threads = i32::try_from(settings.threads)?;
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(settings.context.next_multiple_of(256).try_into()?))
            .with_n_batch(BATCH as u32)
            .with_n_ubatch(BATCH as u32)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_flash_attention_policy(policy)
            .with_n_seq_max(sequences.try_into()?)
            .with_kv_unified(true);
        Ok(self.model.new_context(&self.backend, params)?)
    }
}

impl Llama<'_> {
    /// The logits after the last of `tokens`.
    pub(crate) fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.prefill(tokens)?;
        Ok(self.context.get_logits_ith(-1).to_vec())
    }

    /// Appends to what the cache holds.
    fn feed(&mut self, tokens: &[LlamaToken]) -> Result<()> {
        for batch in tokens.chunks(BATCH) {
            self.context.decode(&mut LlamaBatch::get_one(batch)?)?;
            self.context.synchronize();
            self.cached.extend(batch);
        }
        Ok(())
    }
}

impl Peer for Llama<'_> {
    fn name(&self) -> &'static str {
        "llama.cpp"
    }

    fn prefill(&mut self, prompt: &[u32]) -> Result<f64> {
        self.context.clear_kv_cache();
        self.cached.clear();
        let prompt = own(prompt);
        let start = Instant::now();
        self.feed(&prompt)?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn decode(&mut self, context: &[u32], text: &[u32]) -> Result<f64> {
        let (context, text) = (own(context), own(text));
        let common = self.cached.iter().zip(&context).take_while(|(a, b)| a == b).count();
        let cut = self.context.clear_kv_cache_seq(Some(0), Some(common.try_into()?), None)?;
        ensure!(cut, "llama.cpp cannot cut its cache at `{common}`");
        self.cached.truncate(common);
        self.feed(&context[common..])?;
        let start = Instant::now();
        for token in text.chunks(1) {
            self.feed(token)?;
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

fn own(tokens: &[u32]) -> Vec<LlamaToken> {
    tokens.iter().map(|&t| LlamaToken(t as i32)).collect()
}
