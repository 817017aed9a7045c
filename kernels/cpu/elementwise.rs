//! Operations without reductions: each output depends on one place of each input.

use super::exp::exp;
use super::integers::Integers;
use super::isa::{Isa, Kernel};
use super::packed::Mat;
use super::parallel::{Disjoint, Workers};
use super::vector::{LANES, Lanes, Vector};

/// Columns of a row that are gated in one task; whole vectors.
const PIECE: usize = 2048;

/// Multiplications that the gate of one place is worth, to judge how much work there is.
const GATE: usize = 16;

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
pub(super) fn bias(isa: Isa, workers: &Workers, x: &mut [f32], b: &[f32]) {
    let work = x.len();
    workers.rows(x, b.len(), work, |_, x| isa.run(Add { x, y: b }));
}

/// `x[r] += y[r]`, both `[rows, cols]`.
pub(super) fn add(isa: Isa, workers: &Workers, x: &mut [f32], y: &[f32], cols: usize) {
    let work = x.len();
    workers.rows(x, cols, work, |r, x| isa.run(Add { x, y: &y[r * cols..][..cols] }));
}

struct Add<'a> {
    x: &'a mut [f32],
    y: &'a [f32],
}

impl Kernel for Add<'_> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        // The compiler makes vectors of this.
        for (x, y) in self.x.iter_mut().zip(self.y) {
            *x += y;
        }
    }
}

/// `y[r] = silu(gate) · up`, `y [rows, ffn]`, `gate_up [rows, 2·ffn]`.
///
/// Source: Shazeer, "GLU Variants Improve Transformer", 2020.
pub(super) fn swiglu(isa: Isa, workers: &Workers, y: &mut [f32], gate_up: &[f32], ffn: usize) {
    let (work, pieces) = (y.len() * GATE, ffn.div_ceil(PIECE));
    let (rows, y) = (y.len() / ffn, Disjoint::new(y));
    workers.each(rows * pieces, work, |i| {
        let (r, first) = (i / pieces, i % pieces * PIECE);
        let cols = PIECE.min(ffn - first);
        let (gate, up) = gate_up[2 * ffn * r..][..2 * ffn].split_at(ffn);
        // SAFETY: every task has other columns, or another row.
        let y = unsafe { y.slice(r * ffn + first, cols) };
        isa.run(Gate { y, gate: &gate[first..][..cols], up: &up[first..][..cols] });
    });
}

struct Gate<'a> {
    y: &'a mut [f32],
    gate: &'a [f32],
    up: &'a [f32],
}

impl Kernel for Gate<'_> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        let ((y, rest), (gate, last), (up, factors)) =
            (self.y.as_chunks_mut(), self.gate.as_chunks(), self.up.as_chunks());
        for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
            *y = gated::<V>(gate, up);
        }
        let (mut gate, mut up) = ([0.0; LANES], [0.0; LANES]);
        gate[..last.len()].copy_from_slice(last);
        up[..factors.len()].copy_from_slice(factors);
        rest.copy_from_slice(&gated::<V>(&gate, &up)[..rest.len()]);
    }
}

#[inline(always)]
fn gated<V: Vector>(gate: &Lanes, up: &Lanes) -> Lanes {
    // SAFETY: this is compiled into `Isa::run`'s function for `V`, which knows the instruction set.
    unsafe {
        let gate = V::load(gate);
        let below = V::splat(1.0).add(exp(V::zero().sub(gate)));
        gate.div(below).mul(V::load(up)).store()
    }
}
