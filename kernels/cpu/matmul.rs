//! Products of weights with rows of activations, dense and by experts.
//!
//! A task is some panels of one expert with all of the expert's rows. With few rows, weights are unpacked in
//! registers as they stream by: memory is what limits that. With many, a block of weights is unpacked once into
//! the cache and multiplied with every row. How the work is cut changes no bit: see [`panel`](super::panel).

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

mod few;
mod many;
mod tiles;

use super::codes::Codes;
use super::floats;
use super::integers::Integers;
use super::isa::{Isa, Kernel};
use super::packed::{Mat, Part, Visit, layouts};
use super::panel::light;
use super::parallel::{Disjoint, Workers, with_scratch};
use super::quantized::{Activations, Quantized, RUN, Unit};
use super::scales::Scales;
use super::storage::Routes;
use super::unpacked::{UNPACKED, panels_at_once};
use super::vector::LANES;
use few::Few;
use many::Many;
use std::marker::PhantomData;
use std::ops::Range;
use tiles::Tiles;

/// Bytes of weights in a task of few rows, at least and at most. A task begins with cold reads and ends with some that
/// nobody needs; but threads should end together.
const STREAMED: Range<usize> = 32 << 10..128 << 10;

/// Tasks of few rows for each thread, if they are not too small.
const SHARES: usize = 8;

/// Bytes of scratch that any task needs.
const SCRATCH: usize = if UNPACKED > many::SCRATCH { UNPACKED } else { many::SCRATCH };

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
    activations: Activations,
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
    fn cut(&mut self, w: &Mat, threads: usize, isa: Isa) {
        let at_once = if isa.tiles() { panels_at_once(w.cols) } else { many::PANELS };
        self.tasks.clear();
        let bytes = self.runs.len() * w.parts.iter().map(|p| p.panels * p.panel_bytes).sum::<usize>();
        let streamed = (bytes / (SHARES * threads)).clamp(STREAMED.start, STREAMED.end);
        for (r, run) in self.runs.iter().enumerate() {
            for (p, part) in w.parts.iter().enumerate() {
                let share = part.panels.div_ceil(if self.runs.len() < 2 * threads { 4 * threads } else { 1 });
                let most = if run.pairs.len() <= layouts(part.kind, MostFew(isa)).unwrap_or(isa.few(false)) {
                    streamed.div_ceil(part.panel_bytes)
                } else {
                    at_once.min(share.next_multiple_of(2))
                };
                for first in (0..part.panels).step_by(most.max(1)) {
                    let panels = first..(first + most.max(1)).min(part.panels);
                    self.tasks.push(TaskOf { run: r, part: p, panels });
                }
            }
        }
    }

    /// Rounds the activations as the parts of `w` need them.
    fn round(&mut self, isa: Isa, workers: &Workers, x: &[f32], w: &Mat) {
        let (pairs, runs) = (&self.pairs, &self.runs);
        let has = |wide| w.parts.iter().any(|part| layouts(part.kind, IsWide) == Some(wide));
        if has(false) {
            round(&mut self.activations.fine, isa, workers, (x, w.cols), pairs, runs);
        }
        if has(true) {
            round(&mut self.activations.wide, isa, workers, (x, w.cols), pairs, runs);
        }
    }
}

/// Rounds the rows of all runs.
fn round<U: Unit>(
    to: &mut Quantized<U>,
    isa: Isa,
    workers: &Workers,
    (x, cols): (&[f32], usize),
    pairs: &[Pair],
    runs: &[Run],
) {
    to.clear(cols);
    for run in runs {
        to.group(run.pairs.len(), isa.tile(run.pairs.len()));
    }
    to.fill(isa, workers, x, |i| pairs[i].x);
}

/// Rows of activations up to which weights of a layout are unpacked in registers.
struct MostFew(Isa);

impl Visit for MostFew {
    type Out = usize;

    fn visit<C: Codes, S: Scales>(self) -> usize {
        self.0.few(const { light::<C, S>() })
    }
}

/// Whether weights of a layout are multiplied with activations of one scale for 128 inputs.
struct IsWide;

impl Visit for IsWide {
    type Out = bool;

    fn visit<C: Codes, S: Scales>(self) -> bool {
        S::Unit::INPUTS > RUN
    }
}

/// `y[pair.y] = w[expert] · x[pair.x]` for every pair of `work`. `x [_, w.cols]`, `y [_, w.out]`.
pub(super) fn product(isa: Isa, workers: &Workers, y: &mut [f32], x: &[f32], w: &Mat, work: &mut Work) {
    work.cut(w, workers.threads(), isa);
    work.round(isa, workers, x, w);
    let y = Disjoint::new(y);
    let macs = work.pairs.len().saturating_mul(w.out).saturating_mul(w.cols);
    workers.each(work.tasks.len(), macs, |t| {
        let task = &work.tasks[t];
        let (run, part) = (&work.runs[task.run], &w.parts[task.part]);
        // Scratch is taken here, because a closure is not compiled for the instruction set.
        with_scratch(SCRATCH, |scratch| {
            let task = Task {
                part,
                weights: part.panels(run.expert, task.panels.start, task.panels.len()),
                first: task.panels.start * LANES,
                cols: w.cols,
                out: w.out,
                x,
                activations: &work.activations,
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
    activations: &'a Activations,
    /// The run's first row in the activations.
    row: usize,
    pairs: &'a [Pair],
    y: &'a Disjoint<'a, f32>,
    /// Room for [`SCRATCH`] bytes.
    scratch: &'a mut [u8],
}

/// A task of a quantized type. What runs is chosen outside of the instruction set's functions, so that each layout
/// has functions of its own.
struct On<'a>(Isa, Task<'a>);

impl Visit for On<'_> {
    type Out = ();

    fn visit<C: Codes, S: Scales>(self) {
        let On(isa, task) = self;
        if task.pairs.len() <= MostFew(isa).visit::<C, S>() {
            isa.run(Few { task, paired: isa.pairs_panels(), layout: PhantomData::<(C, S)> });
        } else if isa.tiles() {
            isa.run(Tiles { task, layout: PhantomData::<(C, S)> });
        } else {
            isa.run(Many { task, layout: PhantomData::<(C, S)> });
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
