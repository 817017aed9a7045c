//! Mixture of experts: which experts a row takes, and the sum of what they give.

use super::integers::Integers;
use super::isa::{Isa, Kernel};
use super::lanes;
use super::parallel::Workers;
use super::storage::{Buf, Routes};
use super::vector::LANES;

/// Chooses for every row of `logits [rows, experts]` the `top_k` likeliest, ties to the lower index.
///
/// The order of the logits is the order of their softmax, and of the softmax over all experts nothing
/// remains after renormalisation but the exponentials of the chosen. So those alone are computed, which
/// is also exact where the softmax would round two different logits to one probability.
pub(super) fn route(routes: &mut Routes, logits: &[f32], experts: usize) {
    let k = routes.top_k;
    routes.rows = logits.len() / experts;
    routes.experts = experts;
    let chosen = routes.ids.chunks_exact_mut(k).zip(routes.weights.chunks_exact_mut(k));
    for (logits, (ids, weights)) in logits.chunks_exact(experts).zip(chosen) {
        choose(logits, ids, weights);
        let max = logits[ids[0] as usize];
        let mut sum = 0.0;
        for (w, &id) in weights.iter_mut().zip(&*ids) {
            *w = (logits[id as usize] - max).exp();
            sum += *w;
        }
        weights.iter_mut().for_each(|w| *w /= sum);
    }
}

/// The indices of the largest logits, the largest first, ties to the lower index. Most logits are compared
/// with the last of the chosen and no more. What is not a number is never larger. `largest` is scratch of
/// the length of `ids`, which is at most that of `logits`.
fn choose(logits: &[f32], ids: &mut [u32], largest: &mut [f32]) {
    let (k, mut taken) = (ids.len(), 0);
    for (e, &logit) in (0u32..).zip(logits) {
        let logit = if logit.is_nan() { f32::NEG_INFINITY } else { logit };
        if taken == k && logit <= largest[k - 1] {
            continue;
        }
        let mut at = if taken < k { taken } else { k - 1 };
        while at > 0 && logit > largest[at - 1] {
            (ids[at], largest[at]) = (ids[at - 1], largest[at - 1]);
            at -= 1;
        }
        (ids[at], largest[at]) = (e, logit);
        taken = (taken + 1).min(k);
    }
}

/// `x[r] += Σ_j weight(r, j) · y[r·top_k + j]`, the sum first, j ascending.
pub(super) fn mix(isa: Isa, workers: &Workers, x: &mut Buf, y: &Buf, routes: &Routes) {
    let (cols, k) = (x.cols, routes.top_k);
    workers.rows(x.data_mut(), cols, y.data().len(), |r, x| {
        let weights = &routes.weights[r * k..][..k];
        isa.run(Mix { x, y: &y.data()[r * k * cols..][..k * cols], weights });
    });
}

/// One row. `x [cols]`, `y [weights.len(), cols]`.
struct Mix<'a> {
    x: &'a mut [f32],
    y: &'a [f32],
    weights: &'a [f32],
}

impl Kernel for Mix<'_> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        let cols = self.x.len();
        let (whole, rest) = self.x.as_chunks_mut::<LANES>();
        for (c, x) in whole.iter_mut().enumerate() {
            // SAFETY: this is compiled into `Isa::run`'s function for `V`, which knows the instruction set.
            unsafe {
                let mut sum = V::zero();
                for (j, w) in self.weights.iter().enumerate() {
                    let y = &self.y[j * cols + c * LANES..].as_chunks().0[0];
                    sum = sum.add_product(V::splat(*w), V::load(y));
                }
                *x = V::load(x).add(sum).store();
            }
        }
        for (c, x) in (whole.len() * LANES..).zip(rest) {
            let mut sum = 0.0;
            for (j, w) in self.weights.iter().enumerate() {
                sum = lanes::mul_add::<V>(*w, self.y[j * cols + c], sum);
            }
            *x += sum;
        }
    }
}
