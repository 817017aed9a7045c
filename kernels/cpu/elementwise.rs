//! Operations without reductions: each output depends on one place of each input.

use super::isa::Isa;
use super::packed::Mat;
use super::parallel::Workers;

/// Multiplications that one exponential is worth, to judge how much work there is.
const EXP: usize = 16;

/// `x[r] = table[tokens[r]]`, `x [rows, table.cols]`. Tokens are below `table.out`.
pub(super) fn embed(isa: Isa, workers: &Workers, x: &mut [f32], table: &Mat, tokens: &[u32]) {
    // Taking one output out of a panel decodes what lies around it.
    let work = x.len() * 64;
    workers.rows(x, table.cols, work, |r, x| {
        let token = tokens[r] as usize;
        if let Some(part) = table.parts.iter().find(|p| (p.first..p.first + p.rows).contains(&token)) {
            part.decode(isa, token - part.first, x);
        }
    });
}

/// `x[r] += b`, `b [cols]`.
pub(super) fn bias(x: &mut [f32], b: &[f32]) {
    for x in x.chunks_exact_mut(b.len()) {
        add(x, b);
    }
}

/// `x += y`.
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// `y[r] = silu(gate) · up`, `y [rows, ffn]`, `gate_up [rows, 2·ffn]`.
///
/// Source: Shazeer, "GLU Variants Improve Transformer", 2020.
pub(super) fn swiglu(workers: &Workers, y: &mut [f32], gate_up: &[f32], ffn: usize) {
    let work = y.len() * EXP;
    workers.rows(y, ffn, work, |r, y| {
        let (gate, up) = gate_up[2 * ffn * r..][..2 * ffn].split_at(ffn);
        for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
            *y = g / (1.0 + (-g).exp()) * u;
        }
    });
}
