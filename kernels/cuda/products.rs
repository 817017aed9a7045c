//! Products and what is done with them in one launch, where the kernels can: operands are checked here, launches chosen there.

use super::{Buf, Cuda, Kv, Mat, Routes, api};
use crate::error::{below, equal};
use crate::{Error, Next, OfHeads, Result, Rope};
use api::MAX_HEAD;

impl Cuda {
    /// What is to be done before `y = w · x` of a weight without experts.
    pub(super) fn begin_product(&mut self, y: &mut Buf, x: &Buf, w: &Mat) -> Result<()> {
        w.dense("experts of a dense weight")?;
        equal("columns of a product's input", x.cols, w.cols)?;
        y.begin("product", x.used, w.out)?;
        self.quantize(x, w)
    }

    /// `x += w · y`, and the norm that follows.
    pub(super) fn product_add(
        &mut self,
        x: &mut Buf,
        y: &Buf,
        w: &Mat,
        next: Option<Next<'_, Buf>>,
    ) -> Result<()> {
        w.dense("experts of a dense weight")?;
        equal("columns of a product's input", y.cols, w.cols)?;
        equal("columns of a sum", w.out, x.cols)?;
        equal("rows of a sum", y.rows(), x.rows())?;
        self.quantize(y, w)?;
        let norm = following(next, x)?;
        let (x, y, w) = (x.written(), y.operand(), w.operand());
        // SAFETY: as in `matmul` and `rms_norm`.
        self.run("matmul_add", (x, y, w, norm), |api, d| unsafe {
            (api.matmul)(d, &x, &y, &w, 1, pointer(norm.as_ref()))
        })
    }

    /// `x[r] += Σ_j weight(r, j) · (w[expert(r, j)] · y[r·top_k + j])`, and the norm that follows; `h` is scratch.
    pub(super) fn product_mix(
        &mut self,
        x: &mut Buf,
        y: &Buf,
        w: &Mat,
        routes: &Routes,
        h: &mut Buf,
        next: Option<Next<'_, Buf>>,
    ) -> Result<()> {
        equal("columns of a product's input", y.cols, w.cols)?;
        equal("columns to mix", w.out, x.cols)?;
        equal("rows to mix", x.rows(), routes.used.rows)?;
        equal("rows of a product's input", y.rows(), routes.chosen().rows)?;
        below("experts", routes.experts, w.experts + 1)?;
        h.begin("product of experts", routes.chosen(), w.out)?;
        self.quantize(y, w)?;
        let norm = following(next, x)?;
        let (x, y, w, routes, h) = (x.written(), y.operand(), w.operand(), routes.operand(), h.operand());
        // SAFETY: as in `matmul_experts`, `mix_experts` and `rms_norm`.
        self.run("matmul_experts_mix", (x, y, w, routes, h, norm), |api, d| unsafe {
            (api.matmul_experts_mix)(d, &x, &y, &w, &routes, &h, pointer(norm.as_ref()))
        })
    }

    /// `logits = w · x`, and the routes of its rows.
    pub(super) fn product_route(
        &mut self,
        routes: &mut Routes,
        logits: &mut Buf,
        x: &Buf,
        w: &Mat,
    ) -> Result<()> {
        below("experts of a row", routes.top_k, w.out + 1)?;
        self.begin_product(logits, x, w)?;
        routes.begin(x.used, w.out)?;
        let (routes, logits, x, w) = (routes.operand(), logits.operand(), x.operand(), w.operand());
        // SAFETY: as in `matmul` and `route`.
        self.run("matmul_route", (routes, logits, x, w), |api, d| unsafe {
            (api.matmul_route)(d, &routes, &logits, &x, &w)
        })
    }

    /// `qkv = w · x`, rotated and kept.
    pub(super) fn product_rope(
        &mut self,
        qkv: &mut Buf,
        x: &Buf,
        w: &Mat,
        of_heads: OfHeads<'_, Buf>,
        kv: &mut Kv,
        rope: &Rope,
    ) -> Result<()> {
        self.begin_product(qkv, x, w)?;
        let rotation = self.rotation(qkv, &of_heads, kv, rope)?;
        let (qkv, x, w) = (qkv.operand(), x.operand(), w.operand());
        let (kv, batch) = (kv.operand(), self.inputs.operand());
        // SAFETY: as in `matmul` and `rope`.
        self.run("matmul_rope", (qkv, x, w, kv, &rotation, batch), |api, d| unsafe {
            (api.matmul_rope)(d, &qkv, &x, &w, &kv, &rotation, &batch)
        })
    }

    /// `y = swiglu(w · x)`, dense or by experts whose number and rows have been checked.
    pub(super) fn gated(
        &mut self,
        y: &mut Buf,
        x: &Buf,
        w: &Mat,
        routes: Option<&Routes>,
        gate_up: &mut Buf,
    ) -> Result<()> {
        let used = routes.map_or(x.used, Routes::chosen);
        equal("columns of a product's input", x.cols, w.cols)?;
        equal("columns of gate and up", gate_up.cols, y.cols.saturating_mul(2))?;
        gate_up.begin("product of gate and up", used, w.out)?;
        y.begin("gated rows", used, y.cols)?;
        y.rounded.set(true);
        self.quantize(x, w)?;
        let (y, x, w, gate_up) = (y.operand(), x.operand(), w.operand(), gate_up.operand());
        let routes = routes.map(Routes::operand);
        // SAFETY: as in `matmul` and `matmul_experts`; both results have the rows and columns that are written.
        self.run("matmul_swiglu", (y, x, w, routes, gate_up), |api, d| unsafe {
            (api.matmul_swiglu)(d, &y, &x, &w, pointer(routes.as_ref()), &gate_up)
        })
    }

    /// What rotates the rows of `qkv`, once they and the cache have been found to fit.
    pub(super) fn rotation(
        &self,
        qkv: &Buf,
        of_heads: &OfHeads<'_, Buf>,
        kv: &Kv,
        rope: &Rope,
    ) -> Result<api::Rotation> {
        let heads = kv.heads;
        if rope.heads != heads {
            let (expected, got) = (format!("{heads:?}"), format!("{:?}", rope.heads));
            return Err(Error::Shape { what: "heads to rotate", expected, got });
        }
        equal("columns to rotate", qkv.cols, heads.qkv_cols())?;
        self.fits(qkv, kv)?;
        let mut rotation = api::Rotation {
            radians: [0.0; MAX_HEAD / 2],
            bias: std::ptr::null(),
            q_norm: std::ptr::null(),
            k_norm: std::ptr::null(),
            eps: rope.eps,
        };
        for (i, radians) in rotation.radians[..heads.dim / 2].iter_mut().enumerate() {
            *radians = rope.theta.powf(-2.0 * i as f64 / heads.dim as f64);
        }
        if let Some(bias) = of_heads.bias {
            rotation.bias = bias.vector_of("bias", qkv.cols)?;
        }
        if let Some(norm) = of_heads.norm {
            rotation.q_norm = norm.q.vector_of("weight of the query norm", heads.dim)?;
            rotation.k_norm = norm.k.vector_of("weight of the key norm", heads.dim)?;
        }
        Ok(rotation)
    }
}

/// The operand of a norm of `x` that follows, with its rows in use.
fn following(next: Option<Next<'_, Buf>>, x: &Buf) -> Result<Option<api::Norm>> {
    let Some(Next { w: Some(w), eps, y }) = next else { return Ok(None) };
    let w = w.vector_of("weight of a norm", x.cols)?;
    y.begin("normalised rows", x.used, x.cols)?;
    y.rounded.set(true);
    Ok(Some(api::Norm { y: y.operand(), w, eps }))
}

fn pointer<T>(operand: Option<&T>) -> *const T {
    operand.map_or(std::ptr::null(), std::ptr::from_ref)
}
