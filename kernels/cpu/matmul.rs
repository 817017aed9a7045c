//! Products of weights with rows of activations, dense and by experts.
//!
//! A task is some panels of one expert with all of the expert's rows. With few rows, weights are unpacked in
//! registers as they stream by: memory is what limits that. With many, a block of weights is unpacked once into
//! the cache and multiplied with every tile of rows. How the work is cut changes no bit: see [`panel`](super::panel).

use super::codes::Codes;
use super::integers::Integers;
use super::isa::{Isa, Kernel};
use super::packed::{Mat, Part, Visit, chunk_bytes, layouts};
use super::panel::{Multiplied, Unpacked, packed, unpack, unpacked_bytes};
use super::parallel::{Disjoint, Workers, with_scratch};
use super::quantized::{FEW, Quantized, RUN, TILE};
use super::scales::Scales;
use super::storage::Routes;
use super::vector::LANES;
use super::{amx, floats};
use std::ops::Range;

/// Bytes of weights in a task of few rows: small enough that threads end together.
const STREAMED: usize = 48 << 10;

/// Panels in a task of many rows. Their unpacked weights stay in a core's second cache.
const PANELS: usize = 32;

/// Inputs that are unpacked at a time; whole chunks of every type.
const INPUTS: usize = 512;

/// What to multiply with what. Kept from step to step, so that nothing is allocated on the way.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Rows of activations and the rows that their products go to, grouped by expert.
    pairs: Vec<Pair>,
    /// Experts with any pairs.
    runs: Vec<Run>,
    /// The first pair of each expert, and one more.
    starts: Vec<usize>,
    tasks: Vec<TaskOf>,
    quantized: Quantized,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    x: usize,
    y: usize,
}

#[derive(Debug)]
struct Run {
    expert: usize,
    pairs: Range<usize>,
}

/// Panels of one part for one run.
#[derive(Debug)]
struct TaskOf {
    run: usize,
    part: usize,
    panels: Range<usize>,
}

impl Work {
    /// One expert, every row.
    pub(super) fn dense(&mut self, rows: usize) {
        self.pairs.clear();
        self.pairs.extend((0..rows).map(|r| Pair { x: r, y: r }));
        self.runs.clear();
        if rows > 0 {
            self.runs.push(Run { expert: 0, pairs: 0..rows });
        }
    }

    /// Each choice is a row of the product; its input is one row for every `sharing` choices.
    pub(super) fn routed(&mut self, routes: &Routes, sharing: usize) {
        let ids = routes.ids();
        self.starts.clear();
        self.starts.resize(routes.experts + 1, 0);
        for &e in ids {
            self.starts[e as usize + 1] += 1;
        }
        self.runs.clear();
        for e in 0..routes.experts {
            let (first, count) = (self.starts[e], self.starts[e + 1]);
            self.starts[e + 1] = first + count;
            if count > 0 {
                self.runs.push(Run { expert: e, pairs: first..first + count });
            }
        }
        self.pairs.clear();
        self.pairs.resize(ids.len(), Pair::default());
        for (y, &e) in ids.iter().enumerate() {
            let place = &mut self.starts[e as usize];
            self.pairs[*place] = Pair { x: y / sharing, y };
            *place += 1;
        }
    }

    /// Cuts the product into tasks.
    fn cut(&mut self, w: &Mat, threads: usize) {
        self.tasks.clear();
        for (r, run) in self.runs.iter().enumerate() {
            for (p, part) in w.parts.iter().enumerate() {
                let share = part.panels.div_ceil(if self.runs.len() < 2 * threads { 4 * threads } else { 1 });
                let most =
                    if run.pairs.len() <= FEW { STREAMED.div_ceil(part.panel_bytes) } else { PANELS.min(share) };
                for first in (0..part.panels).step_by(most.max(1)) {
                    let panels = first..(first + most.max(1)).min(part.panels);
                    self.tasks.push(TaskOf { run: r, part: p, panels });
                }
            }
        }
    }
}

/// `y[pair.y] = w[expert] · x[pair.x]` for every pair of `work`. `x [_, w.cols]`, `y [_, w.out]`.
pub(super) fn product(isa: Isa, workers: &Workers, y: &mut [f32], x: &[f32], w: &Mat, work: &mut Work) {
    work.cut(w, workers.threads());
    if w.parts.iter().any(|part| part.kind.layout().0 > 1) {
        work.quantized.clear(w.cols);
        for run in &work.runs {
            work.quantized.group(run.pairs.len());
        }
        let pairs = &work.pairs;
        work.quantized.fill(isa, workers, x, |i| pairs[i].x);
    }
    let y = Disjoint::new(y);
    let macs = work.pairs.len().saturating_mul(w.out).saturating_mul(w.cols);
    workers.each(work.tasks.len(), macs, |t| {
        let task = &work.tasks[t];
        let (run, part) = (&work.runs[task.run], &w.parts[task.part]);
        isa.run(Task {
            part,
            weights: part.panels(run.expert, task.panels.start, task.panels.len()),
            first: task.panels.start * LANES,
            cols: w.cols,
            out: w.out,
            x,
            quantized: &work.quantized,
            rows: run.pairs.clone(),
            pairs: &work.pairs[run.pairs.clone()],
            y: &y,
            tiles: isa.tiles(),
        });
    });
}

/// Some panels of a part with all rows of a run.
struct Task<'a> {
    part: &'a Part,
    /// The panels.
    weights: &'a [u8],
    /// Their first output in the part.
    first: usize,
    cols: usize,
    /// Outputs of the whole weight.
    out: usize,
    x: &'a [f32],
    quantized: &'a Quantized,
    /// The run's rows in `quantized`.
    rows: Range<usize>,
    pairs: &'a [Pair],
    y: &'a Disjoint<'a, f32>,
    /// Whether to use the matrix unit.
    tiles: bool,
}

impl Kernel for Task<'_> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        if self.part.kind.layout().0 > 1 {
            layouts(self.part.kind, Quantizeds::<V>(self, std::marker::PhantomData));
        } else {
            self.floats::<V>();
        }
    }
}

/// A task of a quantized type, on an instruction set.
struct Quantizeds<'a, V>(Task<'a>, std::marker::PhantomData<V>);

impl<V: Integers> Visit for Quantizeds<'_, V> {
    type Out = ();

    #[inline(always)]
    fn visit<C: Codes, S: Scales>(self) {
        if self.0.pairs.len() <= FEW {
            self.0.few::<V, C, S>();
        } else {
            self.0.many::<V, C, S>();
        }
    }
}

impl Task<'_> {
    /// The outputs of panel `panel` of pair `pair`: 16, or fewer at the end of the part.
    ///
    /// # Safety
    /// The slice must have ended before the next call for the same panel and pair.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    unsafe fn outputs(&self, panel: usize, pair: usize) -> &mut [f32] {
        let first = self.first + panel * LANES;
        let count = LANES.min(self.part.rows - first);
        // SAFETY: a row of y belongs to one pair, and these outputs to this task alone: tasks have different runs,
        // whose pairs differ, or different outputs. Within the task the caller sees to it.
        unsafe { self.y.slice(self.pairs[pair].y * self.out + self.part.first + first, count) }
    }

    #[inline(always)]
    fn few<V: Integers, C: Codes, S: Scales>(&self) {
        for (p, panel) in self.weights.chunks_exact(self.part.panel_bytes).enumerate() {
            let mut r = 0;
            while r < self.pairs.len() {
                r += match self.pairs.len() - r {
                    1 => self.rows::<V, C, S, 1>(p, panel, r),
                    2 | 3 => self.rows::<V, C, S, 2>(p, panel, r),
                    4..8 => self.rows::<V, C, S, 4>(p, panel, r),
                    _ => self.rows::<V, C, S, 8>(p, panel, r),
                };
            }
        }
    }

    /// `R` rows from `first` with a packed panel; returns `R`.
    #[inline(always)]
    fn rows<V: Integers, C: Codes, S: Scales, const R: usize>(&self, p: usize, panel: &[u8], first: usize) -> usize {
        let x = self.quantized.tile(self.rows.start + first, 0, self.cols / RUN);
        // SAFETY: this is compiled into `Isa::run`'s function for `V`; each output is written once.
        unsafe {
            let mut sums = [V::zero(); R];
            packed::<V, C, S, R>(&mut sums, panel, x, first);
            for (r, sum) in sums.into_iter().enumerate() {
                let y = self.outputs(p, first + r);
                y.copy_from_slice(&sum.store()[..y.len()]);
            }
        }
        R
    }

    #[inline(always)]
    fn many<V: Integers, C: Codes, S: Scales>(&self) {
        let panels = self.weights.len() / self.part.panel_bytes;
        let room = INPUTS / RUN * unpacked_bytes::<S>();
        let tiles = V::TILES && self.tiles;
        with_scratch(panels * room, |scratch| {
            let _configured = tiles.then(|| amx::Configured::new(RUN / S::RUNS));
            for input in (0..self.cols).step_by(INPUTS) {
                let inputs = INPUTS.min(self.cols - input);
                let runs = inputs / RUN;
                let size = runs * unpacked_bytes::<S>();
                let chunk = chunk_bytes::<C, S>();
                for (panel, to) in self.weights.chunks_exact(self.part.panel_bytes).zip(scratch.chunks_exact_mut(size)) {
                    let packed = &panel[input / S::CHUNK * chunk..][..inputs / S::CHUNK * chunk];
                    // SAFETY: this is compiled into `Isa::run`'s function for `V`.
                    unsafe { unpack::<V, C, S>(packed, to, tiles) };
                }
                for tile in (0..self.pairs.len()).step_by(TILE) {
                    let count = TILE.min(self.pairs.len() - tile);
                    for (p, panel) in scratch.chunks_exact(size).take(panels).enumerate() {
                        let x = self.quantized.tile(self.rows.start + tile, input / RUN, runs);
                        if tiles {
                            self.tile::<V, S>(p, panel, x, tile, count, input == 0);
                        } else {
                            self.eights::<V, C, S>(p, panel, x, tile, count, input == 0);
                        }
                    }
                }
            }
        });
    }

    /// One tile of rows with one unpacked panel on the matrix unit.
    #[inline(always)]
    fn tile<V: Integers, S: Scales>(
        &self,
        p: usize,
        panel: &[u8],
        x: super::quantized::Tile<'_>,
        tile: usize,
        count: usize,
        fresh: bool,
    ) {
        // SAFETY: this is compiled into `Isa::run`'s function for `V`, and tiles are configured; no two slices of y
        // live at once.
        unsafe {
            let mut sums = [V::zero(); TILE];
            if !fresh {
                for r in 0..count {
                    sums[r] = self.partial::<V>(p, tile + r);
                }
            }
            amx::panel::<V, S>(&mut sums, panel, x);
            for r in 0..count {
                let y = self.outputs(p, tile + r);
                y.copy_from_slice(&sums[r].store()[..y.len()]);
            }
        }
    }

    /// What earlier inputs gave.
    ///
    /// # Safety
    /// As for [`outputs`](Self::outputs) and [`Integers`].
    #[inline(always)]
    unsafe fn partial<V: Integers>(&self, p: usize, pair: usize) -> V {
        let mut lanes = [0.0; LANES];
        // SAFETY: by the caller's promise.
        unsafe {
            let y = self.outputs(p, pair);
            lanes[..y.len()].copy_from_slice(y);
            V::load(&lanes)
        }
    }

    /// One tile of rows with one unpacked panel, eight rows at a time.
    #[inline(always)]
    fn eights<V: Integers, C: Codes, S: Scales>(
        &self,
        p: usize,
        panel: &[u8],
        x: super::quantized::Tile<'_>,
        tile: usize,
        count: usize,
        fresh: bool,
    ) {
        const R: usize = 8;
        for first in (0..count).step_by(R) {
            let here = R.min(count - first);
            // SAFETY: this is compiled into `Isa::run`'s function for `V`; no two slices of y live at once.
            unsafe {
                let mut sums = [V::zero(); R];
                if !fresh {
                    for r in 0..here {
                        sums[r] = self.partial::<V>(p, tile + first + r);
                    }
                }
                // A tile has 16 rows; what lies in those that are not used goes nowhere.
                packed::<V, Unpacked<C>, Multiplied<S>, R>(&mut sums, panel, x, first);
                for r in 0..here {
                    let y = self.outputs(p, tile + first + r);
                    y.copy_from_slice(&sums[r].store()[..y.len()]);
                }
            }
        }
    }

    #[inline(always)]
    fn floats<V: Integers>(&self) {
        for (p, panel) in self.weights.chunks_exact(self.part.panel_bytes).enumerate() {
            let mut r = 0;
            while r < self.pairs.len() {
                r += if self.pairs.len() - r < 4 {
                    self.float_rows::<V, 1>(p, panel, r)
                } else {
                    self.float_rows::<V, 4>(p, panel, r)
                };
            }
        }
    }

    #[inline(always)]
    fn float_rows<V: Integers, const R: usize>(&self, p: usize, panel: &[u8], first: usize) -> usize {
        let mut x: [&[f32]; R] = [&[]; R];
        for r in 0..R {
            x[r] = &self.x[self.pairs[first + r].x * self.cols..][..self.cols];
        }
        // SAFETY: this is compiled into `Isa::run`'s function for `V`; each output is written once.
        unsafe {
            let sums: [V; R] = floats::panel(self.part.kind, panel, x);
            for (r, sum) in sums.into_iter().enumerate() {
                let y = self.outputs(p, first + r);
                y.copy_from_slice(&sum.store()[..y.len()]);
            }
        }
        R
    }
}
