//! What was measured, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use coder_engine::ModelInfo;
use serde::Serialize;

use crate::agreement::Agreement;
use crate::ours::Limits;
use crate::rounds::{Figure, Row};
use crate::together;

/// Everything that a run has to say.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) model: ModelInfo,
    pub(crate) threads: usize,
    pub(crate) rounds: usize,
    /// What llama.cpp was built with.
    pub(crate) llama_system_info: String,
    /// How far each peer's prediction is from ours.
    pub(crate) agreement: BTreeMap<&'static str, Agreement>,
    /// Processors that each engine keeps busy while it has nothing to do.
    pub(crate) idle_cores: BTreeMap<&'static str, f64>,
    /// What the machine can do at most, with as many threads.
    pub(crate) limits: Limits,
    pub(crate) results: Vec<Row>,
    /// Sequences side by side.
    pub(crate) together: Vec<together::Row>,
}

impl Report {
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let info = &self.model;
        let per_token = info.weight_bytes_per_token as f64 / 1e9;
        let _ = writeln!(
            out,
            "{} ({}), {per_token:.3} GB of weights per token, {} threads, {} rounds",
            info.name, info.architecture, self.threads, self.rounds
        );
        let _ = writeln!(out, "coder: {}\nllama.cpp: {}", info.device, self.llama_system_info);
        let _ = writeln!(
            out,
            "limits: memory {:.2} GB/s, int8 {:.0} GMAC/s",
            self.limits.memory_bytes_s / 1e9,
            self.limits.int8_products_s / 1e9
        );
        for (name, a) in &self.agreement {
            let same = if a.argmax[0] == a.argmax[1] { "same" } else { "different" };
            let _ = writeln!(out, "{name} agrees: KL {:.1e} nats, {same} argmax", a.kl);
        }
        for (name, cores) in &self.idle_cores {
            if *cores > 0.02 {
                let _ = writeln!(out, "{name} BURNS {cores:.2} cores while idle: the others' figures suffer");
            }
        }
        let _ = writeln!(
            out,
            "\n{:<12} {:<10} {:>8}  {:<19} {:>5} {:>8} {:>7}  coder / this",
            "test", "engine", "tok/s", "(min..max)", "cores", "GB/s", "of mem"
        );
        self.results.iter().for_each(|row| out.push_str(&Self::line(row)));
        if !self.together.is_empty() {
            let _ =
                writeln!(out, "\n{:<12} {:>10} {:>10}  coder / llama.cpp", "sequences", "coder", "llama.cpp");
        }
        for together::Row { sequences, coder_tok_s, llama_tok_s, ratio } in &self.together {
            let _ = writeln!(out, "{sequences:<12} {coder_tok_s:>10.2} {llama_tok_s:>10.2}  {ratio:.3}");
        }
        out
    }

    fn line(row: &Row) -> String {
        let range = |f: &Figure| format!("({:.2}..{:.2})", f.min, f.max);
        let bandwidth = row.weight_bytes_s.map(|b| format!("{:.2}", b / 1e9));
        let share = row.memory_share.map(|share| format!("{:.0} %", 100.0 * share.median));
        let ratio = row.first_over_this.map(|r| format!("{:.3} {}", r.median, range(&r)));
        let line = format!(
            "{:<12} {:<10} {:>8.2}  {:<19} {:>5.2} {:>8} {:>7}  {}",
            row.test,
            row.engine,
            row.tok_s.median,
            range(&row.tok_s),
            row.cores,
            bandwidth.unwrap_or_default(),
            share.unwrap_or_default(),
            ratio.unwrap_or_default(),
        );
        format!("{}\n", line.trim_end())
    }
}
