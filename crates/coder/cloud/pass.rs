//! Requests of clients that are passed on: the same way out as those of tasks, with the same account.

use std::sync::atomic::{AtomicBool, Ordering};

use coder_escalate::{Decision, Dialect, Outgoing, Passed, Policy, RungName};
use serde_json::{Map, Value};

use super::{Cleared, Cloud, LONG_TOKEN, Paid};
use crate::forward::{no_room, unfit};

impl Cloud<'_> {
    /// A client's request in the dialect `spoken` to a rung, if it may leave.
    ///
    /// # Errors
    /// Why it may not, and whether another rung may answer.
    pub(crate) fn cleared_to_pass(
        &self,
        name: &RungName,
        (spoken, body): (Dialect, Map<String, Value>),
        beta: Option<String>,
    ) -> coder_serve::Result<Cleared> {
        let (rung, endpoint, model) =
            self.reach(name).map_err(|error| coder_serve::Error::absent(error.to_string()))?;
        let id = format!("{}-{}", self.run, self.requests.fetch_add(1, Ordering::Relaxed));
        let asked = |error: coder_escalate::Error| unfit(400, error.to_string());
        let outgoing =
            Outgoing::forward(endpoint, (id, model), (name, rung.max_tokens), (spoken, body), beta)
                .map_err(asked)?;
        let bytes = outgoing.text_bytes();
        if let Some(context) = rung.context.filter(|context| bytes / LONG_TOKEN > *context) {
            return Err(no_room(bytes, context, name));
        }
        if !outgoing.left_out().is_empty() {
            let left_out = outgoing.left_out().join(" ");
            tracing::info!(rung = %name, left_out, "left out of what is passed on");
        }
        if let Some(asked) = outgoing.asked() {
            let limit = rung.max_tokens;
            tracing::info!(rung = %name, asked, limit, "a shorter answer than asked for: `rungs.\"{name}\".max_tokens`");
        }
        let price =
            self.prices.of_rung(name, rung).map_err(|error| coder_serve::Error::absent(error.to_string()))?;
        let most_usd = price.most_usd(&outgoing.most());
        match self.egress.decide(name, &outgoing, &[], Policy::Allow) {
            Decision::Cleared(clearance) => Ok(Cleared { outgoing, clearance, price, most_usd }),
            Decision::Refused(refusal) => Err(unfit(403, refusal.to_string())),
            Decision::AskFirst(_) => {
                let problem =
                    "the policy is `ask`, and a server has nobody to ask; start it with `--egress allow`";
                Err(unfit(403, problem.to_owned()))
            }
        }
    }

    /// Sends it, and tells `hear` what comes.
    pub(crate) fn pass(
        &self,
        rung: &RungName,
        cleared: &Cleared,
        gone: &AtomicBool,
        hear: &(dyn Fn(Passed<'_>) + Sync),
    ) -> Result<Paid, String> {
        self.pay((rung, "serve", None), cleared, |again| {
            self.client.forward(&cleared.outgoing, gone, again, hear)
        })
    }
}
