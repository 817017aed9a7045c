//! Operations without reductions: each output depends on one place of each input.

use super::{parallel, storage::Mat};

/// Multiplications that one exponential is worth, to judge how much work there is.
const EXP: usize = 16;

/// `x[r] = table[tokens[r]]`, `x [rows, table.cols]`. Tokens are below `table.out`.
pub(super) fn embed(x: &mut [f32], table: &Mat, tokens: &[u32]) {
    for (x, &token) in x.chunks_exact_mut(table.cols).zip(tokens) {
        let token = token as usize;
        if let Some(part) = table.parts.iter().find(|p| (p.first..p.first + p.rows).contains(&token)) {
            part.decode(0, token - part.first, x, 1);
        }
    }
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
pub(super) fn swiglu(y: &mut [f32], gate_up: &[f32], ffn: usize) {
    let work = y.len() * EXP;
    parallel::rows(y, ffn, work, |r, y| {
        let (gate, up) = gate_up[2 * ffn * r..][..2 * ffn].split_at(ffn);
        for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
            *y = g / (1.0 + (-g).exp()) * u;
        }
    });
}
