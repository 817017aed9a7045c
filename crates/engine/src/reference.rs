//! The portable device, on candle's tensors: the yardstick that other devices are held against.
//!
//! Weights are dequantized to f32 at load, so it needs four bytes a weight; it is exact and not fast.
//! It shares `model.rs` with every other device and can catch no error there.

use candle_core::{D, DType, Device, IndexOp, Tensor};
use coder_kernels::{
    BLOCK, Backend, Batch, Error, Heads, KvType, NO_SLOT, QkNorm, QuantRows, Result, Rope, Span,
};

/// The processor through candle.
pub(crate) struct Reference {
    device: Device,
    batch: Batch,
}

impl Reference {
    pub(crate) fn new() -> Self {
        Self { device: Device::Cpu, batch: Batch::default() }
    }

    fn ids(&self, ids: &[u32]) -> Result<Tensor> {
        tensor(Tensor::from_slice(ids, ids.len(), &self.device))
    }

    /// Cosines and sines of the batch's angles, each `[rows, dim / 2]`.
    fn angles(&self, rope: &Rope) -> Result<(Tensor, Tensor)> {
        let half = rope.heads.dim / 2;
        let frequency = |i: usize| rope.theta.powf(-2.0 * i as f64 / rope.heads.dim as f64);
        let angles: Vec<f64> = self
            .batch
            .positions
            .iter()
            .flat_map(|&p| (0..half).map(move |i| f64::from(p) * frequency(i)))
            .collect();
        let table = |f: fn(f64) -> f64| -> Result<Tensor> {
            let values: Vec<f32> = angles.iter().map(|&a| f(a) as f32).collect();
            tensor(Tensor::from_vec(values, (self.batch.rows(), half), &self.device))
        };
        Ok((table(f64::cos)?, table(f64::sin)?))
    }
}

/// Candle's tensors are values: an operation replaces the one in the buffer.
pub(crate) struct Buf(Tensor); // [rows in use, cols]

pub(crate) struct Mat(Tensor); // [experts, out, in] f32

pub(crate) struct Kv {
    heads: Heads,
    dtype: KvType,
    keys: Tensor,   // [slots, heads.kv * heads.dim]
    values: Tensor, // [slots, heads.kv * heads.dim]
}

pub(crate) struct Routes {
    top_k: usize,
    experts: Vec<Vec<u32>>, // [rows][top_k]
    weights: Vec<f32>,      // [rows, top_k]
}

fn tensor<T>(result: candle_core::Result<T>) -> Result<T> {
    result.map_err(|e| Error::Device { device: "reference", message: e.to_string() })
}

fn same_length(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::Shape { what, expected: expected.to_string(), got: got.to_string() })
}

/// A tensor of `[rows, heads * dim]` as `[1, heads, rows, dim]`, contiguous.
fn by_head(x: &Tensor, heads: usize, dim: usize) -> candle_core::Result<Tensor> {
    x.reshape((1, x.dim(0)?, heads, dim))?.transpose(1, 2)?.contiguous()
}

/// The way back.
fn by_row(x: &Tensor) -> candle_core::Result<Tensor> {
    let (_, heads, rows, dim) = x.dims4()?;
    x.transpose(1, 2)?.contiguous()?.reshape((rows, heads * dim))
}

impl Backend for Reference {
    type Buf = Buf;
    type Mat = Mat;
    type Kv = Kv;
    type Routes = Routes;

    fn name(&self) -> String {
        "reference (candle, f32)".into()
    }

    fn buf(&self, rows: usize, cols: usize) -> Result<Buf> {
        let _ = rows; // the tensors come and go
        Ok(Buf(tensor(Tensor::zeros((0, cols), DType::F32, &self.device))?))
    }

    fn vector(&self, data: &[f32]) -> Result<Buf> {
        Ok(Buf(tensor(Tensor::from_slice(data, (1, data.len()), &self.device))?))
    }

    fn mat(&self, parts: &[QuantRows<'_>], experts: usize) -> Result<Mat> {
        let mut tensors = Vec::with_capacity(parts.len());
        for part in parts {
            let (rows, cols) = (part.rows(), part.cols());
            let mut values = vec![0.0; rows * cols];
            for (r, out) in values.chunks_exact_mut(cols).enumerate() {
                part.dequantize_row(r, out)?;
            }
            tensors.push(tensor(Tensor::from_vec(values, (experts, rows / experts, cols), &self.device))?);
        }
        Ok(Mat(tensor(Tensor::cat(&tensors, 1))?))
    }

    fn kv(&self, slots: usize, heads: Heads, dtype: KvType) -> Result<Kv> {
        let entries = match dtype {
            KvType::F32 | KvType::Q8_0 => DType::F32, // quantized ones are rounded before they are stored
            KvType::F16 => DType::F16,
        };
        let zeros = || tensor(Tensor::zeros((slots, heads.kv * heads.dim), entries, &self.device));
        Ok(Kv { heads, dtype, keys: zeros()?, values: zeros()? })
    }

    fn routes(&self, rows: usize, top_k: usize) -> Result<Routes> {
        Ok(Routes { top_k, experts: Vec::with_capacity(rows), weights: Vec::with_capacity(rows * top_k) })
    }

    fn step(&mut self, batch: &Batch, mut ops: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.batch = batch.clone();
        ops(self)
    }

    fn write(&mut self, x: &mut Buf, data: &[f32]) -> Result<()> {
        let cols = tensor(x.0.dim(1))?;
        x.0 = tensor(Tensor::from_slice(data, (data.len() / cols, cols), &self.device))?;
        Ok(())
    }

    fn read(&mut self, x: &Buf, out: &mut [f32]) -> Result<()> {
        let values = tensor(x.0.flatten_all().and_then(|t| t.to_vec1::<f32>()))?;
        same_length("read", values.len(), out.len())?;
        out.copy_from_slice(&values);
        Ok(())
    }

    fn arithmetic(&self) -> String {
        "reference".into()
    }

    fn block_bytes(&self, kv: &Kv) -> usize {
        2 * BLOCK * kv.heads.kv * kv.heads.dim * kv.keys.dtype().size_in_bytes()
    }

    fn read_block(&mut self, kv: &Kv, block: u32, out: &mut [u8]) -> Result<()> {
        let half = out.len() / 2;
        for (cache, out) in [&kv.keys, &kv.values].into_iter().zip(out.chunks_exact_mut(half.max(1))) {
            let rows = tensor(cache.narrow(0, block as usize * BLOCK, BLOCK).and_then(|t| t.flatten_all()))?;
            let bytes: Vec<u8> = match cache.dtype() {
                DType::F16 => tensor(rows.to_vec1::<half::f16>())?
                    .into_iter()
                    .flat_map(half::f16::to_le_bytes)
                    .collect(),
                _ => tensor(rows.to_vec1::<f32>())?.into_iter().flat_map(f32::to_le_bytes).collect(),
            };
            same_length("bytes of a block", bytes.len(), out.len())?;
            out.copy_from_slice(&bytes);
        }
        Ok(())
    }

    fn write_block(&mut self, kv: &mut Kv, block: u32, data: &[u8]) -> Result<()> {
        same_length("bytes of a block", self.block_bytes(kv), data.len())?;
        let shape = (BLOCK, kv.heads.kv * kv.heads.dim);
        for (cache, data) in [&kv.keys, &kv.values].into_iter().zip(data.chunks_exact(data.len() / 2)) {
            let rows = match cache.dtype() {
                DType::F16 => {
                    let entries = data.as_chunks().0.iter().map(|&bytes| half::f16::from_le_bytes(bytes));
                    Tensor::from_vec(entries.collect(), shape, &self.device)
                }
                _ => {
                    let entries = data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
                    Tensor::from_vec(entries.collect(), shape, &self.device)
                }
            };
            tensor(rows.and_then(|rows| cache.slice_set(&rows, 0, block as usize * BLOCK)))?;
        }
        Ok(())
    }

    fn embed(&mut self, x: &mut Buf, table: &Mat) -> Result<()> {
        let ids = self.ids(&self.batch.tokens)?;
        x.0 = tensor(table.0.i(0).and_then(|t| t.index_select(&ids, 0)))?;
        Ok(())
    }

    fn rms_norm(&mut self, y: &mut Buf, x: &Buf, w: &Buf, eps: f32) -> Result<()> {
        y.0 = tensor(w.0.i(0).and_then(|w| candle_nn::ops::rms_norm(&x.0, &w, eps)))?;
        Ok(())
    }

    fn matmul(&mut self, y: &mut Buf, x: &Buf, w: &Mat) -> Result<()> {
        y.0 = tensor(w.0.i(0).and_then(|w| x.0.matmul(&w.t()?)))?;
        Ok(())
    }

    fn bias(&mut self, x: &mut Buf, b: &Buf) -> Result<()> {
        x.0 = tensor(x.0.broadcast_add(&b.0))?;
        Ok(())
    }

    fn rope(&mut self, qkv: &mut Buf, norm: Option<&QkNorm<Buf>>, kv: &mut Kv, rope: &Rope) -> Result<()> {
        let Heads { q: heads, kv: kv_heads, dim } = rope.heads;
        let (q_cols, kv_cols) = (heads * dim, kv_heads * dim);
        let (cos, sin) = self.angles(rope)?;
        let rotate = |start: usize, heads: usize, weight: Option<&Buf>| -> candle_core::Result<Tensor> {
            let mut x = by_head(&qkv.0.narrow(1, start, heads * dim)?, heads, dim)?;
            if let Some(w) = weight {
                x = candle_nn::ops::rms_norm(&x, &w.0.i(0)?, rope.eps)?;
            }
            by_row(&candle_nn::rotary_emb::rope(&x, &cos, &sin)?)
        };
        let q = tensor(rotate(0, heads, norm.map(|n| &n.q)))?;
        let k = tensor(rotate(q_cols, kv_heads, norm.map(|n| &n.k)))?;
        let v = tensor(qkv.0.narrow(1, q_cols + kv_cols, kv_cols).and_then(|v| v.contiguous()))?;
        tensor(store(kv, &kv.keys, &k, &self.batch.slots))?;
        tensor(store(kv, &kv.values, &v, &self.batch.slots))?;
        qkv.0 = tensor(Tensor::cat(&[&q, &k, &v], 1))?;
        Ok(())
    }

    fn attention(&mut self, y: &mut Buf, qkv: &Buf, kv: &Kv) -> Result<()> {
        let q = tensor(qkv.0.narrow(1, 0, kv.heads.q_cols()))?;
        let mut spans = Vec::with_capacity(self.batch.spans.len());
        for span in &self.batch.spans {
            let rows = span.first as usize..(span.first + span.rows) as usize;
            let positions = &self.batch.positions[rows.clone()];
            let q = tensor(q.narrow(0, rows.start, rows.len()))?;
            spans.push(tensor(attend(&q, kv, span, positions))?);
        }
        y.0 = tensor(Tensor::cat(&spans, 0))?;
        Ok(())
    }

    fn add(&mut self, x: &mut Buf, y: &Buf) -> Result<()> {
        x.0 = tensor(&x.0 + &y.0)?;
        Ok(())
    }

    fn swiglu(&mut self, y: &mut Buf, gate_up: &Buf) -> Result<()> {
        y.0 = tensor(candle_nn::ops::swiglu(&gate_up.0))?;
        Ok(())
    }

    fn route(&mut self, routes: &mut Routes, logits: &Buf) -> Result<()> {
        let rows = tensor(candle_nn::ops::softmax_last_dim(&logits.0).and_then(|p| p.to_vec2::<f32>()))?;
        routes.experts.clear();
        routes.weights.clear();
        for p in rows {
            let mut order: Vec<u32> = (0..p.len() as u32).collect();
            order.sort_by(|&a, &b| p[b as usize].total_cmp(&p[a as usize])); // stable: ties to the lower index
            order.truncate(routes.top_k);
            let sum: f32 = order.iter().map(|&e| p[e as usize]).sum();
            routes.weights.extend(order.iter().map(|&e| p[e as usize] / sum));
            routes.experts.push(order);
        }
        Ok(())
    }

    fn matmul_experts(&mut self, y: &mut Buf, x: &Buf, w: &Mat, routes: &Routes, shared: bool) -> Result<()> {
        let product = |row: usize, expert: u32| -> candle_core::Result<Tensor> {
            x.0.narrow(0, row, 1)?.matmul(&w.0.i(expert as usize)?.t()?)
        };
        let rows = routes.experts.iter().flatten().enumerate();
        let products: candle_core::Result<Vec<Tensor>> =
            rows.map(|(i, &e)| product(if shared { i / routes.top_k } else { i }, e)).collect();
        y.0 = tensor(products.and_then(|p| Tensor::cat(&p, 0)))?;
        Ok(())
    }

    fn mix_experts(&mut self, x: &mut Buf, y: &Buf, routes: &Routes) -> Result<()> {
        let (rows, cols) = tensor(x.0.dims2())?;
        let mix = || -> candle_core::Result<Tensor> {
            let weights = Tensor::from_slice(&routes.weights, (rows, routes.top_k, 1), &self.device)?;
            let y = y.0.reshape((rows, routes.top_k, cols))?;
            &x.0 + y.broadcast_mul(&weights)?.sum(1)?
        };
        x.0 = tensor(mix())?;
        Ok(())
    }

    fn select(&mut self, y: &mut Buf, x: &Buf) -> Result<()> {
        let rows = self.ids(&self.batch.logits)?;
        y.0 = tensor(x.0.index_select(&rows, 0))?;
        Ok(())
    }
}

/// Writes each row to its slot, rounded.
fn store(kv: &Kv, cache: &Tensor, rows: &Tensor, slots: &[u32]) -> candle_core::Result<()> {
    let mut rows = rows.to_dtype(cache.dtype())?.contiguous()?;
    if kv.dtype == KvType::Q8_0 {
        let mut values = rows.flatten_all()?.to_vec1::<f32>()?;
        values.chunks_exact_mut(kv.heads.dim).for_each(|head| kv.dtype.round(head));
        rows = Tensor::from_vec(values, rows.shape(), rows.device())?;
    }
    for (r, &slot) in slots.iter().enumerate().filter(|&(_, &s)| s != NO_SLOT) {
        cache.slice_set(&rows.narrow(0, r, 1)?.contiguous()?, 0, slot as usize)?;
    }
    Ok(())
}

/// Softmax attention of the rows of one sequence, each up to its own position: `[rows, heads.q_cols()]`.
fn attend(q: &Tensor, kv: &Kv, span: &Span, positions: &[u32]) -> candle_core::Result<Tensor> {
    let Heads { q: heads, kv: kv_heads, dim } = kv.heads;
    let context = positions.iter().max().map_or(0, |&p| p as usize + 1);
    let slots: Vec<u32> = (0..context).filter_map(|p| span.slot(p)).map(|s| s as u32).collect();
    let slots = Tensor::from_vec(slots, context, q.device())?;
    let gather = |cache: &Tensor| -> candle_core::Result<Tensor> {
        let x = by_head(&cache.index_select(&slots, 0)?.to_dtype(DType::F32)?, kv_heads, dim)?;
        let x = x.unsqueeze(2)?.broadcast_as((1, kv_heads, heads / kv_heads, context, dim))?;
        x.contiguous()?.reshape((1, heads, context, dim))
    };
    let scores = by_head(q, heads, dim)?.matmul(&gather(&kv.keys)?.t()?.contiguous()?)?;
    let mask: Vec<f32> = positions
        .iter()
        .flat_map(|&p| (0..context).map(move |c| if c <= p as usize { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    let mask = Tensor::from_vec(mask, (1, 1, positions.len(), context), q.device())?;
    let scores = (scores * (1.0 / (dim as f64).sqrt()))?.broadcast_add(&mask)?;
    let weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
    by_row(&weights.matmul(&gather(&kv.values)?)?)
}
