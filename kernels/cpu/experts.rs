//! Mixture of experts: which experts a row takes, and the sum of what they give.

use super::parallel::Workers;
use super::storage::{Buf, Routes};

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
        for j in 0..k {
            ids[j] = largest(logits, &ids[..j]);
        }
        let max = logits[ids[0] as usize];
        let mut sum = 0.0;
        for (w, &id) in weights.iter_mut().zip(&*ids) {
            *w = (logits[id as usize] - max).exp();
            sum += *w;
        }
        weights.iter_mut().for_each(|w| *w /= sum);
    }
}

/// The index of the first largest logit that is not yet taken. There is one: `taken` is shorter than
/// `logits`. What is not a number is never larger.
fn largest(logits: &[f32], taken: &[u32]) -> u32 {
    let mut best = None;
    for (e, &logit) in (0u32..).zip(logits) {
        if best.is_none_or(|(_, largest)| logit > largest) && !taken.contains(&e) {
            best = Some((e, logit));
        }
    }
    best.map_or(0, |(e, _)| e)
}

/// `x[r] += Σ_j weight(r, j) · y[r·top_k + j]`, the sum first, j ascending.
pub(super) fn mix(workers: &Workers, x: &mut Buf, y: &Buf, routes: &Routes) {
    let (cols, k) = (x.cols, routes.top_k);
    workers.rows(x.data_mut(), cols, y.data().len(), |r, x| {
        let weights = &routes.weights[r * k..][..k];
        let rows = &y.data()[r * k * cols..][..k * cols];
        for (c, x) in x.iter_mut().enumerate() {
            let mut sum = 0.0;
            for (j, w) in weights.iter().enumerate() {
                sum += w * rows[j * cols + c];
            }
            *x += sum;
        }
    });
}
