//! Fits of a run of weights by a few integers: which scale (and minimum) loses the least.
//!
//! Every fit tries a row of scales near the obvious one, rounds the weights for each, solves the linear least
//! squares for these integers, and keeps the best. Source: the searches that ggml uses where it has no
//! importance matrix, by Iwan Kawrakow. Sums run in eight lanes, which compilers turn into vectors.

/// Runs whose largest magnitude is below this are zero: half precision cannot hold their scale.
const NOTHING: f32 = 1e-15;

/// Which scales to try: `levels + first + i · step` steps between minimum and largest weight, for `i` in
/// `0..=count`.
#[derive(Clone, Copy)]
pub(super) struct Tries {
    pub(super) first: f32,
    pub(super) step: f32,
    pub(super) count: u8,
    /// Whether the weighted magnitude of the error counts, and not its square.
    pub(super) magnitude: bool,
}

/// The nearest integer for numbers within ±2²²: adding 1.5 · 2²³ leaves no bits for a fraction.
#[inline(always)]
pub(super) fn round(v: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (v + SHIFT) - SHIFT
}

/// `v` within `low..=high`. Written so that it is two vector instructions; `f32::clamp` is not.
#[inline(always)]
pub(super) fn within(v: f32, low: f32, high: f32) -> f32 {
    let v = if v > low { v } else { low };
    if v < high { v } else { high }
}

/// Σ over the lanes.
#[inline(always)]
fn total(lanes: [f32; 8]) -> f64 {
    let [a, b, c, d, e, f, g, h] = lanes;
    f64::from(((a + e) + (c + g)) + ((b + f) + (d + h)))
}

/// Scale and minimum, so that x ≈ scale · l − minimum with integers l in `0..=levels`; neither is negative.
/// `w` says how much each weight counts.
#[inline(always)]
pub(super) fn affine<const N: usize>(x: &[f32; N], w: &[f32; N], levels: f32, tries: Tries) -> (f32, f32) {
    let (mut low, mut high) = (x[0].min(0.0), x[0]);
    let (mut sw, mut sx, mut sxx) = ([0f32; 8], [0f32; 8], [0f32; 8]);
    for (x, w) in x.as_chunks::<8>().0.iter().zip(w.as_chunks::<8>().0) {
        for i in 0..8 {
            low = if x[i] < low { x[i] } else { low };
            high = if x[i] > high { x[i] } else { high };
            sw[i] += w[i];
            sx[i] += w[i] * x[i];
            sxx[i] += w[i] * x[i] * x[i];
        }
    }
    let range = high - low;
    if range < NOTHING {
        return (0.0, -low);
    }
    let sums = Sums { w: total(sw), x: total(sx), xx: total(sxx) };
    let start = range / levels;
    let mut best = (start, low);
    let mut least =
        sums.error(&Rounded::of(x, w, low, levels / range, levels), f64::from(start), f64::from(low));
    if tries.magnitude {
        least = magnitude(x, w, low, levels / range, levels, best);
    }
    for i in 0..=tries.count {
        // The best minimum so far takes part in the next try: a fit that walks.
        if high - low < NOTHING {
            break;
        }
        let inverse = (tries.first + tries.step * f32::from(i) + levels) / (high - low);
        let rounded = Rounded::of(x, w, low, inverse, levels);
        let Some((scale, min)) = sums.solve(&rounded) else { continue };
        let error = if tries.magnitude {
            magnitude(x, w, low, inverse, levels, (scale as f32, min as f32))
        } else {
            sums.error(&rounded, scale, min)
        };
        if error < least {
            (least, best) = (error, (scale as f32, min as f32));
            low = best.1;
        }
    }
    (best.0, -best.1)
}

/// Weighted sums over a run: of nothing, of x, of x².
struct Sums {
    w: f64,
    x: f64,
    xx: f64,
}

/// Weighted sums with the integers of one try: of l, of l², of l · x.
struct Rounded {
    l: f64,
    ll: f64,
    lx: f64,
}

impl Rounded {
    #[inline(always)]
    fn of<const N: usize>(x: &[f32; N], w: &[f32; N], low: f32, inverse: f32, levels: f32) -> Self {
        let (mut sl, mut sll, mut slx) = ([0f32; 8], [0f32; 8], [0f32; 8]);
        for (x, w) in x.as_chunks::<8>().0.iter().zip(w.as_chunks::<8>().0) {
            for i in 0..8 {
                let l = round(within((x[i] - low) * inverse, 0.0, levels));
                let wl = w[i] * l;
                sl[i] += wl;
                sll[i] += wl * l;
                slx[i] += wl * x[i];
            }
        }
        Self { l: total(sl), ll: total(sll), lx: total(slx) }
    }
}

impl Sums {
    /// Scale and minimum of the least squares; the minimum is not above zero.
    fn solve(&self, r: &Rounded) -> Option<(f64, f64)> {
        let determinant = self.w * r.ll - r.l * r.l;
        if determinant <= 0.0 {
            return None;
        }
        let inverse = 1.0 / determinant;
        let min = (r.ll * self.x - r.l * r.lx) * inverse;
        if min > 0.0 {
            return Some((r.lx / r.ll, 0.0));
        }
        Some(((self.w * r.lx - self.x * r.l) * inverse, min))
    }

    /// Σ w · (scale · l + min − x)².
    fn error(&self, r: &Rounded, scale: f64, min: f64) -> f64 {
        self.xx + scale * (scale * r.ll + 2.0 * (min * r.l - r.lx)) + min * (min * self.w - 2.0 * self.x)
    }
}

/// Σ w · |scale · l + min − x|.
#[inline(always)]
fn magnitude<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    low: f32,
    inverse: f32,
    levels: f32,
    (scale, min): (f32, f32),
) -> f64 {
    let mut sum = [0f32; 8];
    for (x, w) in x.as_chunks::<8>().0.iter().zip(w.as_chunks::<8>().0) {
        for i in 0..8 {
            let l = round(within((x[i] - low) * inverse, 0.0, levels));
            sum[i] += w[i] * (scale * l + min - x[i]).abs();
        }
    }
    total(sum)
}

/// The weight of largest magnitude, or `None` if the run counts as zero.
#[inline(always)]
pub(super) fn largest<const N: usize>(x: &[f32; N]) -> Option<f32> {
    let largest = x.iter().fold(0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
    (largest.abs() >= NOTHING).then_some(largest)
}

/// The scale, of either sign, so that x ≈ scale · value(x / scale), where `value` rounds to what the codes
/// can be and `extreme` is the value of largest magnitude. Weights count by their squares. The tries put
/// `extreme + i · step` on the largest weight, for `i` in `-count..=count`.
#[inline(always)]
pub(super) fn symmetric<const N: usize>(
    x: &[f32; N],
    extreme: f32,
    step: f32,
    count: i8,
    value: impl Fn(f32) -> f32,
) -> f32 {
    let Some(largest) = largest(x) else { return 0.0 };
    let (mut scale, mut best) = (0f64, 0f64);
    // The middle first: among equals it wins.
    for i in std::iter::once(0).chain((-count..=count).filter(|&i| i != 0)) {
        let inverse = (extreme + step * f32::from(i)) / largest;
        let (mut svx, mut svv) = ([0f32; 8], [0f32; 8]);
        for x in x.as_chunks::<8>().0 {
            for i in 0..8 {
                let v = value(x[i] * inverse);
                let w = x[i] * x[i];
                svx[i] += w * v * x[i];
                svv[i] += w * v * v;
            }
        }
        let (svx, svv) = (total(svx), total(svv));
        if svv > 0.0 && svx * svx > best * svv {
            scale = svx / svv;
            best = scale * svx;
        }
    }
    scale as f32
}

/// As [`symmetric`] for integers in `-levels..levels`, but instead of trying other scales it moves one
/// integer after the other as long as that helps: better for few levels.
pub(super) fn descent<const N: usize>(x: &[f32; N], levels: f32) -> f32 {
    const ROUNDS: usize = 5;
    let Some(largest) = largest(x) else { return 0.0 };
    // Relative to the largest: the products below have eight factors of the weights' size.
    let unit = largest.abs();
    let (x, largest) = (x.map(|v| v / unit), largest / unit);
    let nearest = |v: f32| within(round(within(v, -levels, levels)), -levels, levels - 1.0);
    let mut l = x.map(|v| nearest(v * (-levels / largest)));
    let w = x.map(|v| v * v);
    let (mut slx, mut sll) = (0f32, 0f32);
    for i in 0..N {
        slx += w[i] * x[i] * l[i];
        sll += w[i] * l[i] * l[i];
    }
    for _ in 0..ROUNDS {
        let mut moved = false;
        for i in 0..N {
            // Without weight i; then with the integer that the scale of the others asks for.
            let (others_lx, others_ll) = (slx - w[i] * x[i] * l[i], sll - w[i] * l[i] * l[i]);
            if others_lx <= 0.0 {
                continue;
            }
            let other = nearest(x[i] * others_ll / others_lx);
            if other == l[i] {
                continue;
            }
            let (new_lx, new_ll) = (others_lx + w[i] * x[i] * other, others_ll + w[i] * other * other);
            if new_ll > 0.0 && new_lx * new_lx * sll > slx * slx * new_ll {
                (l[i], slx, sll, moved) = (other, new_lx, new_ll, true);
            }
        }
        if !moved {
            break;
        }
    }
    if sll > 0.0 { unit * slx / sll } else { 0.0 }
}
