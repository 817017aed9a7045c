//! How the rows of a batch are cut into tasks: which changes no bit, only who computes what.

use super::{CHUNK, state_size};
use crate::cpu::storage::zeroed;
use crate::{Batch, Heads, Result};
use std::ops::Range;

/// Queries of a tile, about: they share what it costs to widen a block, and their scores and sums fit the
/// second cache.
const TILE: usize = 96;

/// Rows of a tile at most, so that little of the last block is computed in vain.
const ROWS: usize = 32;

/// A tile of at most so many rows may be split by chunks.
const SPLIT: usize = 4;

/// What is known of a batch for all of its layers.
#[derive(Debug, Default)]
pub(in crate::cpu) struct Plan {
    pub(super) tiles: Vec<Tile>,
    /// Tiles, a split one counting once for each chunk.
    pub(super) jobs: usize,
    /// Positions that all rows see together.
    pub(super) seen: usize,
    made_for: Option<Heads>,
    /// Results of chunks, `[places, heads.kv]` times what a chunk gives.
    pub(super) partials: Vec<f32>,
}

/// Rows of one span that are computed together.
#[derive(Debug)]
pub(super) struct Tile {
    pub(super) span: usize,
    pub(super) rows: Range<usize>,
    /// The last position that any of the rows sees.
    last: usize,
    first_job: usize,
    /// The first of the rows' places in the partials if the tile is split.
    pub(super) place: Option<usize>,
}

impl Tile {
    pub(super) fn chunks(&self) -> usize {
        self.last / CHUNK + 1
    }
}

impl Plan {
    /// A new batch has other rows.
    pub(in crate::cpu) fn forget(&mut self) {
        self.made_for = None;
    }

    /// Cuts the spans of `batch` into tiles, unless that is done.
    pub(super) fn prepare(&mut self, batch: &Batch, heads: Heads, slots: usize) -> Result<()> {
        if self.made_for == Some(heads) {
            return Ok(());
        }
        // Places for every chunk of the cache, of a few rows that see all of it, and of short contexts.
        let places = slots.div_ceil(CHUNK).saturating_mul(SPLIT).saturating_add(16);
        let size = heads.q.saturating_mul(state_size(heads.dim));
        if self.partials.len() < places.saturating_mul(size) {
            self.partials = zeroed("partial results of attention", places, size)?;
        }
        let rows_of_tile = (TILE / (heads.q / heads.kv)).clamp(1, ROWS);
        let mut taken = 0;
        (self.jobs, self.seen) = (0, 0);
        self.tiles.clear();
        for (span, s) in batch.spans.iter().enumerate() {
            let end = (s.first + s.rows) as usize;
            for first in (s.first as usize..end).step_by(rows_of_tile) {
                let rows = first..(first + rows_of_tile).min(end);
                let positions = &batch.positions[rows.clone()];
                self.seen += positions.iter().map(|&p| p as usize + 1).sum::<usize>();
                let last = positions.iter().max().map_or(0, |&p| p as usize);
                let mut tile = Tile { span, rows, last, first_job: self.jobs, place: None };
                let need = tile.chunks() * tile.rows.len();
                if tile.rows.len() <= SPLIT && tile.chunks() > 1 && taken + need <= places {
                    tile.place = Some(taken);
                    taken += need;
                    self.jobs += tile.chunks();
                } else {
                    self.jobs += 1;
                }
                self.tiles.push(tile);
            }
        }
        self.made_for = Some(heads);
        Ok(())
    }
}

/// The tile of job `job`, and the chunks of it.
pub(super) fn job(tiles: &[Tile], job: usize) -> (&Tile, Range<usize>) {
    let tile = &tiles[tiles.partition_point(|t| t.first_job <= job) - 1];
    match tile.place {
        Some(_) => (tile, job - tile.first_job..job - tile.first_job + 1),
        None => (tile, 0..tile.chunks()),
    }
}
