//! Leases of pulls: how long they live, whose they are, and what becomes of those whose owner died.
//!
//! A process that is killed cannot give its lease back. The lease says which process took it, so the next pull on this
//! machine can; where nobody pulls again, it expires.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::digest::Digest;
use crate::grpc::{Containerd, Lease};
use crate::store::Labels;

/// A lease with a new name, owned by this process.
pub(super) fn new() -> Lease {
    let expires = humantime::format_rfc3339_seconds(SystemTime::now() + LEASE_LIFE);
    let mut labels = Labels::from([(EXPIRE_LABEL.to_owned(), expires.to_string())]);
    if let Some(owner) = owner(std::process::id()) {
        labels.insert(OWNER_LABEL.to_owned(), owner);
    }
    Lease {
        id: format!("parapull-{}-{:x}", std::process::id(), now_ns()),
        labels,
    }
}

/// Gives back the leases of processes that are no more. What fails is left to their expiry.
pub(super) async fn give_back_abandoned(containerd: &Containerd) {
    let Ok(leases) = containerd.leases_with(OWNER_LABEL).await else {
        return;
    };
    for lease in leases {
        let abandoned = lease
            .labels
            .get(OWNER_LABEL)
            .is_some_and(|owner| is_gone(owner));
        if abandoned && let Err(error) = containerd.delete_lease(&lease.id, false).await {
            tracing::warn!(%error, "the lease of a process that ended is left");
        }
    }
}

/// A key for an active snapshot, of the form that containerd's clients use.
pub(super) fn unpack_key(chain: &Digest) -> String {
    let now = now_ns();
    format!(
        "extract-{}-{:04x} {chain}",
        now % 1_000_000_000,
        std::process::id() & 0xffff
    )
}

/// Boot, process namespace, id and start of a process: no other is ever called so. None when it does not exist.
fn owner(process: u32) -> Option<String> {
    // The command's name is in brackets and may hold anything; the start is field 22, the 20th after it.
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let start = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    Some(format!("{}/{process}/{start}", place()?))
}

/// Whether an owner was a process of this boot and this process namespace that has ended, or of an earlier boot.
fn is_gone(owner_text: &str) -> bool {
    let Some(place) = place() else { return false };
    let mut parts = owner_text.split('/');
    let (boot, namespace, process) = (parts.next(), parts.next(), parts.next());
    let mut here = place.split('/');
    if boot != here.next() {
        return true;
    }
    if namespace != here.next() {
        return false;
    }
    let process = process.and_then(|process| process.parse().ok());
    process.is_some_and(|process| owner(process).as_deref() != Some(owner_text))
}

/// Boot and process namespace.
fn place() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::metadata("/proc/self/ns/pid").ok()?.ino();
    Some(format!("{}/{namespace}", boot.trim()))
}

fn now_ns() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos())
}

const EXPIRE_LABEL: &str = "containerd.io/gc.expire";
const OWNER_LABEL: &str = "parapull/owner";
/// As containerd's own clients (`client.WithLease`).
const LEASE_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_that_ended_here_or_before_the_boot_are_gone() {
        let own = owner(std::process::id()).unwrap();
        let parts: Vec<&str> = own.split('/').collect();
        let [boot, namespace, process, start] = parts[..] else {
            panic!("{own}");
        };
        let table = [
            (own.clone(), false),
            // The same id, taken by a later process.
            (format!("{boot}/{namespace}/{process}/{start}0"), true),
            (format!("{boot}/{namespace}/4194999/1"), true),
            // Processes of a container cannot be seen from here.
            (format!("{boot}/1/4194999/1"), false),
            (format!("0000/{namespace}/{process}/{start}"), true),
        ];
        for (owner, gone) in table {
            assert_eq!(is_gone(&owner), gone, "{owner}");
        }
    }
}
