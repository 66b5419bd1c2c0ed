//! One caller that makes each of the small calls in turn and takes the time.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::RpcLoadError;
use super::client::Client;

/// The calls that are measured, in their order.
pub const CALLS: [&str; 7] = [
    "Stat",
    "List",
    "List (filter)",
    "Usage",
    "Prepare",
    "Commit",
    "Remove",
];

/// Milliseconds by call.
#[derive(Debug, Default)]
pub(super) struct Samples {
    by_call: BTreeMap<&'static str, Vec<f64>>,
    rounds: usize,
}

impl Samples {
    pub(super) fn of(&self, call: &str) -> &[f64] {
        self.by_call.get(call).map_or(&[], Vec::as_slice)
    }

    async fn time<T>(
        &mut self,
        call: &'static str,
        answer: impl Future<Output = Result<T, RpcLoadError>>,
    ) -> Result<T, RpcLoadError> {
        let began = Instant::now();
        let value = answer.await?;
        let took_ms = began.elapsed().as_secs_f64() * 1e3;
        self.by_call.entry(call).or_default().push(took_ms);
        Ok(value)
    }
}

/// Makes rounds of calls until `is_over`, at least one.
///
/// `List` of everything, which containerd asks for only when it collects garbage, comes every tenth round.
pub(super) async fn run(
    client: &Client,
    filled: &[String],
    samples: &mut Samples,
    is_over: impl Fn() -> bool,
) -> Result<(), RpcLoadError> {
    loop {
        let round = samples.rounds;
        samples.rounds += 1;
        let some = &filled[(round * STRIDE) % filled.len()];
        samples.time("Stat", client.stat(some)).await?;
        samples.time("Usage", client.usage(some)).await?;
        if round.is_multiple_of(10) {
            samples.time("List", client.list("")).await?;
        }
        let filter = format!("parent==\"{some}\"");
        samples.time("List (filter)", client.list(&filter)).await?;
        let (key, name) = (
            format!("k8s.io/{round}/probe"),
            format!("k8s.io/{round}/probed"),
        );
        let labels = HashMap::new;
        samples
            .time("Prepare", client.prepare(&key, some, labels()))
            .await?;
        samples.time("Commit", client.commit(&name, &key)).await?;
        samples.time("Remove", client.remove(&name)).await?;
        if is_over() {
            return Ok(());
        }
    }
}

/// Coprime to the usual numbers of snapshots, so that each has its turn.
const STRIDE: usize = 37;
