//! Finds the fault a request meets. The list is the scenario's; what happens then is the answer's business.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use parapull_scenario::registry::{Fault, FaultKind, FaultTarget, Faults};

/// What a fault may fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject<'a> {
    Blob(&'a str),
    Manifest(&'a str),
    Token,
    Ping,
}

/// The faults with their counts, and which digests are which layers.
#[derive(Debug, Default)]
pub(crate) struct FaultBook {
    faults: Vec<Fault>,
    met: Mutex<Vec<u32>>,
    layers: BTreeMap<String, BTreeSet<u32>>,
    configs: BTreeSet<String>,
}

impl FaultBook {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            met: Mutex::new(vec![0; faults.faults.len()]),
            faults: faults.faults,
            layers: BTreeMap::new(),
            configs: BTreeSet::new(),
        }
    }

    pub(crate) fn add_layer(&mut self, index: u32, digest: String) {
        self.layers.entry(digest).or_default().insert(index);
    }

    pub(crate) fn add_config(&mut self, digest: String) {
        self.configs.insert(digest);
    }

    /// Counts a request for `range` of `subject` with every fault that fits it, and says which one happens.
    pub(crate) fn meet(&self, subject: &Subject<'_>, range: &Range<u64>) -> Option<FaultKind> {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let mut happening = None;
        for (fault, count) in self.faults.iter().zip(met.iter_mut()) {
            if !self.fits(&fault.target, subject) || !covers(fault, range) {
                continue;
            }
            *count = count.saturating_add(1);
            if happening.is_none() && fault.times.includes(*count) {
                happening = Some(fault.kind);
            }
        }
        happening
    }

    fn fits(&self, target: &FaultTarget, subject: &Subject<'_>) -> bool {
        match (target, subject) {
            (FaultTarget::Layer(index), Subject::Blob(digest)) => self
                .layers
                .get(*digest)
                .is_some_and(|indexes| indexes.contains(index)),
            (FaultTarget::AnyLayer, Subject::Blob(digest)) => self.layers.contains_key(*digest),
            (FaultTarget::Config, Subject::Blob(digest)) => self.configs.contains(*digest),
            (FaultTarget::Digest(wanted), Subject::Blob(digest) | Subject::Manifest(digest)) => {
                wanted == digest
            }
            (FaultTarget::Manifest, Subject::Manifest(_))
            | (FaultTarget::Token, Subject::Token)
            | (FaultTarget::Ping, Subject::Ping) => true,
            _ => false,
        }
    }
}

/// A corrupt byte happens to requests that carry it, whether the fault says so again or not.
fn covers(fault: &Fault, range: &Range<u64>) -> bool {
    let offset = match fault.kind {
        FaultKind::CorruptByte { offset } => fault.offset.or(Some(offset)),
        _ => fault.offset,
    };
    offset.is_none_or(|offset| range.contains(&offset))
}

#[cfg(test)]
mod tests {
    use parapull_scenario::registry::FaultTimes;

    use super::*;

    fn book(faults: Vec<Fault>) -> FaultBook {
        let mut book = FaultBook::new(Faults { faults });
        book.add_layer(0, "sha256:a".to_owned());
        book.add_layer(1, "sha256:b".to_owned());
        book.add_config("sha256:c".to_owned());
        book
    }

    #[test]
    fn an_offset_makes_the_order_of_other_ranges_irrelevant() {
        let kind = FaultKind::ResetAfter { bytes: 1 };
        let book = book(vec![Fault {
            target: FaultTarget::Layer(1),
            offset: Some(150),
            times: FaultTimes::First(1),
            kind,
        }]);
        let layer = Subject::Blob("sha256:b");
        assert_eq!(book.meet(&layer, &(0..100)), None);
        assert_eq!(book.meet(&Subject::Blob("sha256:a"), &(100..200)), None);
        assert_eq!(book.meet(&layer, &(100..200)), Some(kind));
        assert_eq!(book.meet(&layer, &(100..200)), None);
    }

    #[test]
    fn the_first_fault_that_fits_happens_but_all_count() {
        let status = |code| FaultKind::Status {
            code,
            retry_after_seconds: None,
        };
        let fault = |times, code| Fault {
            target: FaultTarget::Config,
            offset: None,
            times,
            kind: status(code),
        };
        let book = book(vec![
            fault(FaultTimes::Nth(1), 500),
            fault(FaultTimes::Nth(2), 503),
        ]);
        let config = Subject::Blob("sha256:c");
        assert_eq!(book.meet(&config, &(0..5)), Some(status(500)));
        assert_eq!(book.meet(&config, &(0..5)), Some(status(503)));
        assert_eq!(book.meet(&config, &(0..5)), None);
    }

    #[test]
    fn a_corrupt_byte_needs_the_range_that_carries_it() {
        let kind = FaultKind::CorruptByte { offset: 7 };
        let book = book(vec![Fault {
            target: FaultTarget::AnyLayer,
            offset: None,
            times: FaultTimes::Always,
            kind,
        }]);
        assert_eq!(book.meet(&Subject::Blob("sha256:a"), &(0..7)), None);
        assert_eq!(book.meet(&Subject::Blob("sha256:a"), &(7..8)), Some(kind));
        assert_eq!(book.meet(&Subject::Blob("sha256:c"), &(0..9)), None);
    }
}
