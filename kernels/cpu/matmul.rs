//! Products of weights with rows of activations, dense and by experts.
//!
//! A task is some panels of one expert with all of the expert's rows. With few rows, weights are unpacked in
//! registers as they stream by: memory is what limits that. With many, a block of weights is unpacked once into
//! the cache and multiplied with every tile of rows. How the work is cut changes no bit: see [`panel`](super::panel).

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

use super::codes::Codes;
use super::integers::Integers;
use super::isa::{Isa, Kernel};
use super::packed::{Mat, Part, Visit, chunk_bytes, layouts};
use super::panel::{
    Multiplied, UNPACKED, Unpacked, inputs_at_once, packed, panels_at_once, unpack, unpacked_bytes,
};
use super::parallel::{Disjoint, Workers, with_scratch};
use super::quantized::{Quantized, RUN, TILE, Tile};
use super::scales::Scales;
use super::storage::Routes;
use super::vector::LANES;
use super::{amx, floats};
use std::marker::PhantomData;
use std::ops::Range;

/// Bytes of weights in a task of few rows, at least and at most. A task begins with cold reads and ends with some that
/// nobody needs; but threads should end together.
const STREAMED: Range<usize> = 32 << 10..128 << 10;

/// Tasks of few rows for each thread, if they are not too small.
const SHARES: usize = 8;

/// Inputs that a tile of rows is multiplied with at a time: both stay in a core's first cache.
const NEAR: usize = 512;

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
    fn cut(&mut self, w: &Mat, threads: usize, few: usize) {
        self.tasks.clear();
        let bytes = self.runs.len() * w.parts.iter().map(|p| p.panels * p.panel_bytes).sum::<usize>();
        let streamed = (bytes / (SHARES * threads)).clamp(STREAMED.start, STREAMED.end);
        for (r, run) in self.runs.iter().enumerate() {
            for (p, part) in w.parts.iter().enumerate() {
                let share = part.panels.div_ceil(if self.runs.len() < 2 * threads { 4 * threads } else { 1 });
                let most = if run.pairs.len() <= few {
                    streamed.div_ceil(part.panel_bytes)
                } else {
                    panels_at_once(w.cols).min(share.next_multiple_of(2))
                };
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
    work.cut(w, workers.threads(), isa.few());
    if w.parts.iter().any(|part| part.kind.layout().0 > 1) {
        work.quantized.clear(w.cols);
        for run in &work.runs {
            work.quantized.group(run.pairs.len(), isa.few());
        }
        let pairs = &work.pairs;
        work.quantized.fill(isa, workers, x, |i| pairs[i].x);
    }
    let y = Disjoint::new(y);
    let macs = work.pairs.len().saturating_mul(w.out).saturating_mul(w.cols);
    workers.each(work.tasks.len(), macs, |t| {
        let task = &work.tasks[t];
        let (run, part) = (&work.runs[task.run], &w.parts[task.part]);
        // Scratch is taken here, because a closure is not compiled for the instruction set.
        with_scratch(UNPACKED, |scratch| {
            let task = Task {
                part,
                weights: part.panels(run.expert, task.panels.start, task.panels.len()),
                first: task.panels.start * LANES,
                cols: w.cols,
                out: w.out,
                x,
                quantized: &work.quantized,
                row: run.pairs.start,
                pairs: &work.pairs[run.pairs.clone()],
                y: &y,
                scratch,
            };
            if part.kind.layout().0 > 1 {
                layouts(part.kind, On(isa, task));
            } else {
                isa.run(Floats(task));
            }
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
    /// The run's first row in `quantized`.
    row: usize,
    pairs: &'a [Pair],
    y: &'a Disjoint<'a, f32>,
    /// Room for [`UNPACKED`] bytes.
    scratch: &'a mut [u8],
}

/// A task of a quantized type. What runs is chosen outside of the instruction set's functions, so that each layout
/// has functions of its own.
struct On<'a>(Isa, Task<'a>);

impl Visit for On<'_> {
    type Out = ();

    fn visit<C: Codes, S: Scales>(self) {
        let On(isa, task) = self;
        if task.pairs.len() <= isa.few() {
            isa.run(Few(task, PhantomData::<(C, S)>));
        } else {
            isa.run(Many { task, tiles: isa.tiles(), layout: PhantomData::<(C, S)> });
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

    /// Writes the outputs of panel `panel` of pair `pair`.
    ///
    /// # Safety
    /// As for [`Integers`].
    #[inline(always)]
    unsafe fn put<V: Integers>(&self, panel: usize, pair: usize, sum: V) {
        // SAFETY: the slice ends with this function; the caller is below `Isa::run` for `V`.
        unsafe {
            let y = self.outputs(panel, pair);
            let lanes = sum.store();
            match y.as_chunks_mut::<LANES>().0 {
                [y] => *y = lanes,
                _ => y.iter_mut().zip(lanes).for_each(|(y, lane)| *y = lane),
            }
        }
    }

    /// What [`put`](Self::put) wrote.
    ///
    /// # Safety
    /// As for [`Integers`].
    #[inline(always)]
    unsafe fn get<V: Integers>(&self, panel: usize, pair: usize) -> V {
        // SAFETY: as above.
        unsafe {
            let y = self.outputs(panel, pair);
            if let [y] = y.as_chunks::<LANES>().0 {
                return V::load(y);
            }
            let mut lanes = [0.0; LANES];
            lanes.iter_mut().zip(y).for_each(|(lane, y)| *lane = *y);
            V::load(&lanes)
        }
    }
}

/// Few rows: weights are unpacked in registers.
struct Few<'a, C, S>(Task<'a>, PhantomData<(C, S)>);

impl<C: Codes, S: Scales> Kernel for Few<'_, C, S> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        for (p, panel) in self.0.weights.chunks_exact(self.0.part.panel_bytes).enumerate() {
            let mut r = 0;
            while r < self.0.pairs.len() {
                // Conditions on constants first: what an instruction set has no registers for is not compiled.
                let left = self.0.pairs.len() - r;
                r += if V::ROWS >= 8 && left >= 8 {
                    self.rows::<V, 8>(p, panel, r)
                } else if V::ROWS >= 4 && left >= 4 {
                    self.rows::<V, 4>(p, panel, r)
                } else if V::ROWS >= 2 && left >= 2 {
                    self.rows::<V, 2>(p, panel, r)
                } else {
                    self.rows::<V, 1>(p, panel, r)
                };
            }
        }
    }
}

impl<C: Codes, S: Scales> Few<'_, C, S> {
    /// `R` rows from `first` with a packed panel; returns `R`.
    #[inline(always)]
    fn rows<V: Integers, const R: usize>(&self, p: usize, panel: &[u8], first: usize) -> usize {
        let x = self.0.quantized.tile(self.0.row + first, 0, self.0.cols / RUN);
        // Few rows are one tile.
        assert!(first + R <= x.height(), "rows beyond their tile");
        // SAFETY: this is compiled into `Isa::run`'s function for `V`; rows are checked above.
        unsafe {
            let sums = packed::<V, C, S, R, true>([V::zero(); R], panel, x, first);
            for r in 0..R {
                self.0.put(p, first + r, sums[r]);
            }
        }
        R
    }
}

/// Many rows: weights are unpacked into the cache, a block of inputs at a time.
struct Many<'a, C, S> {
    task: Task<'a>,
    /// Whether to use the matrix unit.
    tiles: bool,
    layout: PhantomData<(C, S)>,
}

impl<C: Codes, S: Scales> Kernel for Many<'_, C, S> {
    #[inline(always)]
    fn run<V: Integers>(mut self) {
        let panel_bytes = self.task.part.panel_bytes;
        let panels = self.task.weights.len() / panel_bytes;
        let tiles = V::TILES && self.tiles;
        let _configured = if tiles { Some(amx::Configured::new(RUN / S::RUNS)) } else { None };
        let scratch = std::mem::take(&mut self.task.scratch);
        let at_once = inputs_at_once(self.task.cols);
        for input in (0..self.task.cols).step_by(at_once) {
            let inputs = at_once.min(self.task.cols - input);
            let size = inputs / RUN * unpacked_bytes::<S>();
            let chunk = const { chunk_bytes::<C, S>() };
            for (panel, to) in self.task.weights.chunks_exact(panel_bytes).zip(scratch.chunks_exact_mut(size))
            {
                let packed = &panel[input / S::CHUNK * chunk..][..inputs / S::CHUNK * chunk];
                // SAFETY: this is compiled into `Isa::run`'s function for `V`.
                unsafe { unpack::<V, C, S>(packed, to, tiles) };
            }
            let scratch = &scratch[..panels * size];
            let block = Block { scratch, size, input, runs: inputs / RUN };
            // SAFETY: as above, and tiles are configured where they are used.
            unsafe { if tiles { self.by_tiles::<V>(&block) } else { self.by_vectors::<V>(&block) } };
        }
    }
}

/// Unpacked weights: some inputs of all panels of a task.
struct Block<'a> {
    scratch: &'a [u8],
    /// Bytes of one panel.
    size: usize,
    /// The first input, and how many runs of inputs.
    input: usize,
    runs: usize,
}

impl<C: Codes, S: Scales> Many<'_, C, S> {
    /// The tile of rows that begins with `row`.
    #[inline(always)]
    fn x(&self, block: &Block<'_>, row: usize) -> Tile<'_> {
        // What lies in rows that are not used goes nowhere.
        self.task.quantized.tile(self.task.row + row, block.input / RUN, block.runs).whole()
    }

    /// Every row with every panel of the block on the matrix unit, two tiles of rows and two panels at a time.
    ///
    /// # Safety
    /// As for [`amx::block`].
    #[inline(always)]
    unsafe fn by_tiles<V: Integers>(&self, block: &Block<'_>) {
        let (rows, fresh) = (self.task.pairs.len(), block.input == 0);
        let panels = block.scratch.len() / block.size;
        let mut products = amx::Products::new();
        for row in (0..rows).step_by(2 * TILE) {
            let both = row + TILE < rows;
            let x = [self.x(block, row), self.x(block, if both { row + TILE } else { row })];
            for p in (0..panels).step_by(2) {
                // A last panel without a neighbour is its own, whose outputs are dropped.
                let next = (p + 1).min(panels - 1);
                let weights = [
                    &block.scratch[p * block.size..][..block.size],
                    &block.scratch[next * block.size..][..block.size],
                ];
                // SAFETY: the caller's promise.
                unsafe {
                    let mut sums = [[V::zero(); TILE]; 4];
                    if !fresh {
                        for c in 0..4 {
                            for r in 0..TILE.min(rows.saturating_sub(row + c / 2 * TILE)) {
                                sums[c][r] = self.task.get([p, next][c % 2], row + c / 2 * TILE + r);
                            }
                        }
                    }
                    if both {
                        amx::block::<V, S, true>(&mut sums, weights, x, &mut products);
                    } else {
                        amx::block::<V, S, false>(&mut sums, weights, x, &mut products);
                    }
                    for c in 0..if next == p { 1 } else { 2 } {
                        for r in 0..(2 * TILE).min(rows - row) {
                            self.task.put(p + c, row + r, sums[r / TILE * 2 + c][r % TILE]);
                        }
                    }
                }
            }
        }
    }

    /// Every row with every panel of the block on the vector unit.
    ///
    /// # Safety
    /// As for [`packed`].
    #[inline(always)]
    unsafe fn by_vectors<V: Integers>(&self, block: &Block<'_>) {
        let rows = self.task.pairs.len();
        for row in (0..rows).step_by(TILE) {
            let x = self.x(block, row);
            for (p, panel) in block.scratch.chunks_exact(block.size).enumerate() {
                // SAFETY: the caller's promise.
                unsafe {
                    let (rows, fresh) = (row..(row + TILE).min(rows), block.input == 0);
                    if V::ROWS >= 8 {
                        self.some::<V, 8>(p, panel, x, rows, fresh);
                    } else if V::ROWS >= 4 {
                        self.some::<V, 4>(p, panel, x, rows, fresh);
                    } else {
                        self.some::<V, 1>(p, panel, x, rows, fresh);
                    }
                }
            }
        }
    }

    /// One tile of rows with one unpacked panel, `R` rows at a time.
    ///
    /// # Safety
    /// As for [`packed`].
    #[inline(always)]
    unsafe fn some<V: Integers, const R: usize>(
        &self,
        p: usize,
        panel: &[u8],
        x: Tile<'_>,
        rows: Range<usize>,
        fresh: bool,
    ) {
        let near = const { NEAR / RUN * unpacked_bytes::<S>() };
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [V::zero(); TILE];
            if !fresh {
                for (sum, row) in sums.iter_mut().zip(rows.clone()) {
                    *sum = self.task.get(p, row);
                }
            }
            for (i, panel) in panel.chunks(near).enumerate() {
                let x = x.runs(i * (NEAR / RUN), panel.len() / unpacked_bytes::<S>());
                for (first, sums) in (0..rows.len()).step_by(R).zip(sums.as_chunks_mut::<R>().0) {
                    *sums = packed::<V, Unpacked<C>, Multiplied<S>, R, false>(*sums, panel, x, first);
                }
            }
            for (sum, row) in sums.into_iter().zip(rows) {
                self.task.put(p, row, sum);
            }
        }
    }
}

/// A task of a float type.
struct Floats<'a>(Task<'a>);

impl Kernel for Floats<'_> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        for (p, panel) in self.0.weights.chunks_exact(self.0.part.panel_bytes).enumerate() {
            let mut r = 0;
            while r < self.0.pairs.len() {
                r += if self.0.pairs.len() - r < 4 {
                    self.rows::<V, 1>(p, panel, r)
                } else {
                    self.rows::<V, 4>(p, panel, r)
                };
            }
        }
    }
}

impl Floats<'_> {
    #[inline(always)]
    fn rows<V: Integers, const R: usize>(&self, p: usize, panel: &[u8], first: usize) -> usize {
        let task = &self.0;
        let mut x: [&[f32]; R] = [&[]; R];
        for r in 0..R {
            x[r] = &task.x[task.pairs[first + r].x * task.cols..][..task.cols];
        }
        // SAFETY: this is compiled into `Isa::run`'s function for `V`.
        unsafe {
            let sums: [V; R] = floats::panel(task.part.kind, panel, x);
            for r in 0..R {
                task.put(p, first + r, sums[r]);
            }
        }
        R
    }
}
