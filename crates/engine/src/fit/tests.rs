//! Plans against arithmetic that is done here, from the published shapes.

use super::*;
use crate::config::{Architecture, Moe};
use coder_kernels::Heads;

const GIB: u64 = 1 << 30;

fn config(
    architecture: Architecture,
    [layers, hidden, ffn, vocab, context]: [usize; 5],
    [q, kv, dim]: [usize; 3],
    tied: bool,
) -> Config {
    let moe = architecture == Architecture::Qwen3Moe;
    Config {
        architecture,
        layers,
        hidden,
        heads: Heads { q, kv, dim },
        ffn,
        vocab,
        context,
        eps: 1e-6,
        rope_theta: 1e6,
        qkv_bias: architecture == Architecture::Qwen2,
        qk_norm: architecture != Architecture::Qwen2,
        moe: moe.then_some(Moe { experts: 128, top_k: 8, ffn }),
        tied,
        pooling: None,
        name: None,
    }
}

fn coder(dims: [usize; 4], heads: [usize; 3], tied: bool) -> Config {
    let [layers, hidden, ffn, vocab] = dims;
    config(Architecture::Qwen2, [layers, hidden, ffn, vocab, 32_768], heads, tied)
}

/// Qwen2.5-Coder: 0.5B, 1.5B, 3B, 7B, 14B, 32B.
fn coders() -> [Config; 6] {
    [
        coder([24, 896, 4864, 151_936], [14, 2, 64], true),
        coder([28, 1536, 8960, 151_936], [12, 2, 128], true),
        coder([36, 2048, 11_008, 151_936], [16, 2, 128], true),
        coder([28, 3584, 18_944, 152_064], [28, 4, 128], false),
        coder([48, 5120, 13_824, 152_064], [40, 8, 128], false),
        coder([64, 5120, 27_648, 152_064], [40, 8, 128], false),
    ]
}

/// Qwen3-Coder-30B-A3B.
fn a3b() -> Config {
    config(Architecture::Qwen3Moe, [48, 2048, 768, 151_936, 262_144], [32, 4, 128], false)
}

/// `n` bytes, from a multiple of 256 to the next.
fn up(n: usize) -> usize {
    n.div_ceil(256) * 256
}

/// A matrix of `n` weights in planes: bytes of a block of K-quants, or of a block of 32, rows being whole units of 128.
fn q4_k(n: usize) -> usize {
    up(n / 256 * 16) + up(n / 256 * 128)
}

fn q6_k(n: usize) -> usize {
    up(n / 256 * 2) + up(n / 256 * 16) + up(n / 256 * 64) + up(n / 256 * 128)
}

fn q5_0(n: usize) -> usize {
    up(n / 32 * 2) + up(n / 32 * 4) + up(n / 32 * 16)
}

fn q8_0(n: usize) -> usize {
    up(n / 32 * 2) + up(n)
}

/// Bytes of so many weights.
type Encoded = fn(usize) -> usize;

/// Activations `[rows, cols]`: 4 bytes each, and for each 32 of them their codes, a scale of 4 and a sum of 8.
fn rows(rows: usize, cols: usize) -> usize {
    let units = rows * cols.div_ceil(128);
    up(rows * cols * 4) + up(units * 128) + 2 * up(units * 16)
}

/// Whether Q4_K_M gives a layer more bits: the first and the last eighth, and every third between.
fn more(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

fn room(context: usize, kv: KvType) -> Room {
    Room { context, cache: context, kv, rows: 512, rows_on_card: 512, logits: 1, graphs: true }
}

fn plan(config: &Config, context: usize, kv: KvType) -> Plan {
    Plan::new(Tensors::Mixed(config, FileType::Q4_K_M), &room(context, kv)).expect("a plan")
}

/// Weights on the card and in host memory of a dense model in Q4_K_M, by hand.
fn dense_weights(
    layers: usize,
    h: usize,
    ffn: usize,
    vocab: usize,
    [q, kv]: [usize; 2],
    tied: bool,
) -> [usize; 2] {
    // 896 columns are no whole blocks of 256: llama.cpp takes these instead.
    let whole = h.is_multiple_of(256);
    let (low, high): (Encoded, Encoded) = if whole { (q4_k, q6_k) } else { (q5_0, q8_0) };
    let mut card = 0;
    for layer in 0..layers {
        let (v, down) =
            if more(layer, layers) { (high(kv * h), q6_k(h * ffn)) } else { (low(kv * h), q4_k(h * ffn)) };
        card += low(q * h) + low(kv * h) + v + rows(1, q + 2 * kv); // q, k, v and their bias
        card += low(h * q); // the attention's output: as many columns as the residual, in these models
        card += 2 * low(ffn * h) + down;
        card += 2 * rows(1, h); // norms
    }
    card += rows(1, h) + high(vocab * h);
    [card, if tied { 0 } else { vocab * h / 256 * 144 }]
}

#[test]
fn weights_are_those_of_the_published_files() {
    // Beside the arithmetic: the gigabytes of crates/coder/published.rs, which are rounded.
    let published = [0.39, 0.98, 1.92, 4.68, 8.98, 19.85];
    for (c, published) in coders().iter().zip(published) {
        let [card, host] = dense_weights(
            c.layers,
            c.hidden,
            c.ffn,
            c.vocab,
            [c.heads.q_cols(), c.heads.kv * c.heads.dim],
            c.tied,
        );
        let bytes = plan(c, 4096, KvType::F16).bytes(c.layers, Memory::total(24 * GIB));
        assert_eq!([bytes.weights, bytes.host_weights], [card as u64, host as u64], "{c:?}");
        let total = (card + host) as f64 / 1e9;
        assert!((total / published - 1.0).abs() < 0.02, "{total} {published}");
    }
}

/// One row of logits, and what is needed to choose of it.
fn logits(vocab: usize) -> usize {
    let parts = vocab.div_ceil(2048);
    up(4 * vocab) + up(4 * parts) + up(8 * 128 * parts) + up(8 * (1 + 128 + vocab.div_ceil(512)))
}

#[test]
fn experts() {
    let c = a3b();
    let (h, ffn, all) = (2048, 768, 128);
    let mut card = 0;
    for layer in 0..48 {
        let more = more(layer, 48);
        let (v, down) =
            if more { (q6_k(512 * h), q6_k(all * h * ffn)) } else { (q4_k(512 * h), q4_k(all * h * ffn)) };
        card += q4_k(4096 * h) + q4_k(512 * h) + v + 2 * rows(1, 128); // q, k, v, norms of their heads
        card += q4_k(h * 4096) + 2 * rows(1, h);
        card += up(all * h * 4) + 2 * q4_k(all * ffn * h) + down; // the router is F32
    }
    card += rows(1, h) + q6_k(151_936 * h);
    let bytes = plan(&c, 32_768, KvType::F16).bytes(48, Memory::total(24 * GIB));
    assert_eq!([bytes.weights, bytes.host_weights], [card as u64, 151_936 * 2048 / 256 * 144]);
    assert_eq!(bytes.cache, 3 * GIB);
    // The eight experts of a row each have one in these.
    let activations = 2 * rows(512, h) + rows(512, 5120) + rows(512, 4096);
    let of_experts = rows(4096, 2 * ffn) + rows(4096, ffn) + rows(4096, h) + rows(512, all);
    let routes = 4 * (3 * 512 * 8 + 1025);
    let last = 2 * rows(1, h) + logits(151_936);
    let own = 4 * (5 * 512 + 1024) + 1024 * 32 * 130 * 4;
    assert_eq!(bytes.scratch, (activations + of_experts + routes + last + own) as u64);
    assert_eq!(plan(&c, 32_768, KvType::F16).most_layers(Memory::total(24 * GIB)), 48);
}

/// Its experts' weights are read for so few rows each that steps are longer; not at the price of a layer.
#[test]
fn a_mixture_has_longer_steps_where_all_of_it_fits() {
    let (c, short) = (a3b(), room(32_768, KvType::F16));
    let tensors = Tensors::Mixed(&c, FileType::Q4_K_M);
    let plan = Plan::new(tensors, &Room { rows_on_card: 2048, ..short }).expect("a plan");
    let least = Plan::new(tensors, &short).expect("a plan").bytes(48, Memory::total(0));
    let most = plan.bytes(48, Memory::total(24 * GIB));
    assert_eq!((least.rows, most.rows), (512, 2048));
    assert!(most.scratch - least.scratch > 3 * least.scratch / 2);
    for (bytes, layers, expected) in [
        (most.card, 48, most),
        (most.card - 1, 48, least),
        (least.card, 48, least),
        (most.card, 47, plan.bytes(47, Memory::total(0))),
    ] {
        let memory = Memory::total(bytes);
        assert_eq!(plan.most_layers(memory), 48);
        assert_eq!(plan.bytes(layers, memory), expected);
    }
    assert_eq!(plan.most_layers(Memory::total(least.card - 1)), 47);
}

#[test]
fn cache_and_scratch() {
    // KiB of one token with f16 entries.
    for (c, kib) in coders().iter().zip([12, 28, 36, 56, 192, 256]) {
        let memory = Memory::total(24 * GIB);
        let bytes = |kv| plan(c, 32_768, kv).bytes(c.layers, memory);
        assert_eq!(bytes(KvType::F16).cache, kib * 1024 * 32_768);
        // 32 entries of 2 bytes become 32 of 1 and a scale of 2.
        assert_eq!(bytes(KvType::Q8_0).cache, kib * 1024 * 32_768 / 64 * 34);
        let (h, qkv) = (c.hidden, c.heads.qkv_cols());
        let layers = 3 * rows(512, h) + rows(512, qkv) + rows(512, 2 * c.ffn) + rows(512, c.ffn);
        let last = 2 * rows(1, h) + logits(c.vocab);
        let own = 4 * (5 * 512 + 1024) + 1024 * c.heads.q * (c.heads.dim + 2) * 4;
        assert_eq!(bytes(KvType::F16).scratch, (layers + last + own) as u64);
    }
}

#[test]
fn the_32b_at_32k_fits_24_gb_with_an_8_bit_cache_alone() {
    let c = &coders()[5];
    let card = Memory::total(24 * GIB);
    let (half, eight) = (plan(c, 32_768, KvType::F16), plan(c, 32_768, KvType::Q8_0));
    assert_eq!(half.bytes(64, card).cache, 8 * GIB);
    assert!(half.bytes(64, card).card > 24 * GIB && (1..64).contains(&half.most_layers(card)));
    assert!(eight.bytes(64, card).card <= 24 * GIB && eight.most_layers(card) == 64);
    // 152,064 rows of 5,120 columns in Q4_K, 144 bytes for 256: without that in host memory it would not.
    let table = eight.bytes(64, card).host_weights;
    assert_eq!(table, 152_064 * 20 * 144);
    assert!(eight.bytes(64, card).card + table + GIB / 4 > 24 * GIB);
    assert_eq!(half.most_layers(Memory::total(32 * GIB)), 64);
    let tensors = Tensors::Mixed(c, FileType::Q4_K_M);
    let largest =
        |kv, gib| largest_context(tensors, &room(32_768, kv), Memory::total(gib * GIB)).expect("a plan");
    assert_eq!(largest(KvType::Q8_0, 24), 32_768);
    assert!((16_384..24_576).contains(&largest(KvType::F16, 24)));
    assert_eq!(largest(KvType::F16, 32), 32_768);
    assert_eq!(largest(KvType::F16, 16), 0);
}

#[test]
fn a_context_fits_exactly_up_to_the_largest() {
    let c = a3b();
    let tensors = Tensors::Mixed(&c, FileType::Q4_K_M);
    for (gib, kv) in [(24, KvType::F16), (24, KvType::Q8_0), (32, KvType::F16)] {
        let memory = Memory::total(gib * GIB);
        let largest = largest_context(tensors, &room(4096, kv), memory).expect("a plan");
        let all = |context| plan(&c, context, kv).most_layers(memory) == 48;
        assert!(all(largest) && !all(largest + 256), "{largest}");
    }
}

#[test]
fn fewer_layers_need_less_and_the_others_are_in_host_memory() {
    let c = &coders()[1];
    let plan = plan(c, 4096, KvType::F16);
    let memory = Memory::total(GIB);
    let all = plan.bytes(28, memory);
    for n in 1..28 {
        let (less, more) = (plan.bytes(n, memory), plan.bytes(n + 1, memory));
        assert!(less.card < more.card && less.host_cache > more.host_cache);
        let layers = less.weights + less.host_weights;
        // The table of a tied model is on the card as the head, and on the CPU for the first layers.
        assert!(n == 27 || layers.abs_diff(more.weights + more.host_weights) < 64 << 10);
        assert_eq!(less.cache + less.host_cache, all.cache);
    }
    assert_eq!(all.host_weights, 0);
    assert_eq!(plan.most_layers(Memory::total(16 << 20)), 0);
}

#[test]
fn a_limit_makes_a_large_card_small_and_no_card_larger() {
    let (small, large) = (Memory::total(24 * GIB), Memory::free(140 * GIB, Some(24 * GIB)));
    assert_eq!(large, small);
    assert_eq!(Memory::free(8 * GIB, Some(24 * GIB)), Memory::free(8 * GIB, None));
    assert_eq!(Memory::free(8 * GIB, Some(1)).room(), 0);
}

#[test]
fn the_host_needs_room_for_logits_and_activations_too() {
    let c = &coders()[1];
    let room = Room {
        context: 4096,
        cache: 4096,
        kv: KvType::F16,
        rows: 512,
        rows_on_card: 512,
        logits: 32,
        graphs: false,
    };
    let (logits, samplers) = (32 * 151_936 * 4, 16 * 151_936 * 16);
    let chosen = scratch_on_host(c, room.limits(), false, 16).unwrap();
    assert_eq!(chosen, logits + samplers);
    // Residual, normalised, queries with keys and values, attention, gate and up, gated.
    let layers = 512 * (1536 + 1536 + (12 + 4) * 128 + 1536 + 2 * 8960 + 8960) * 4;
    let head = 32 * (1536 + 1536) * 4 + logits;
    let moved = 512 * 1536 * 4 + 512 * 8960 * 2;
    assert_eq!(scratch_on_host(c, room.limits(), true, 16).unwrap(), chosen + layers + head + moved);
}
