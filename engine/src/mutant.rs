//! Planted bugs, so that those who check the engine can be checked: compiled in with the feature `mutants` only.
//!
//! A hook is one line, `if mutant!(Name) { … }`. Without the feature it is `if false` and costs nothing.

/// Whether a planted bug is active.
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutant::is_planted($crate::mutant::Mutant::$name)
    };
}

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A planted bug, by what it breaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        #[cfg_attr(not(feature = "mutants"), expect(unreachable_pub, reason = "public with the feature"))]
        pub enum Mutant {
            $($(#[doc = $doc])+ $name,)+
        }

        #[cfg(feature = "mutants")]
        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// What it breaks, in a sentence.
            pub const fn breaks(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+),)+
                }
            }
        }
    };
}

mutants! {
    /// The engine does not ask to be woken for a backoff, a stall check or a deadline.
    LostWake = "lost-wake",
    /// A cancelled fetch keeps the window bytes it was charged for.
    CreditLeak = "credit-leak",
    /// A fetch that ends keeps its permit.
    PermitLeak = "permit-leak",
    /// A lane that gives a thread back keeps its permit.
    ThreadLeak = "thread-leak",
    /// A lane is widened beyond the threads that were taken for it.
    WideUnpaid = "wide-unpaid",
    /// A lane stays wide although another one runs or could start.
    WideKept = "wide-kept",
    /// A link that is made is told twice.
    ReadyTwice = "ready-twice",
    /// Attempts are not counted: a range is asked for again without bound.
    EndlessRetry = "endless-retry",
    /// What the registry says about when to come back is not listened to.
    RetryAfterIgnored = "retry-after-ignored",
    /// Look-ahead leaves no piece of the window for the lanes there may be.
    LookAheadUnbounded = "look-ahead-unbounded",
    /// Bytes of a range that are here are forgotten when its backoff is over.
    ReceivedForgotten = "received-forgotten",
    /// A layer is let go of although another place wants it.
    SharedCancelled = "shared-cancelled",
    /// A fetch that waits for credit is taken for stalled.
    StallWithoutCredit = "stall-without-credit",
    /// A layer is linked although the one below it is not.
    LinkBeforeParent = "link-before-parent",
    /// The end of an op that is closed is taken for that of another.
    StaleAccepted = "stale-accepted",
    /// A chunk is left out.
    ChunkGap = "chunk-gap",
    /// Changed limits take force at once, whatever is held.
    LimitsAtOnce = "limits-at-once",
    /// A caller that comes back does not stop the grace period.
    GraceRunsOn = "grace-runs-on",
    /// A blob whose bytes were wrong is not fetched once more.
    NoSecondLife = "no-second-life",
    /// A registry without ranges fails the pull.
    NoDegrade = "no-degrade",
    /// Mirrors are not asked.
    MirrorsForgotten = "mirrors-forgotten",
    /// A staged tree nobody wants is kept for ever.
    StagingKept = "staging-kept",
    /// Blobs are stored although the spool is full.
    SpoolUnbounded = "spool-unbounded",
    /// Of several fetches that may start, one does.
    WorkLeftUndone = "work-left-undone",
    /// Images are served in the order of their ids.
    FairnessOff = "fairness-off",
    /// A fetch that is cancelled is told so again.
    CancelledTwice = "cancelled-twice",
    /// What a live image goes on with stays charged to the one that ended.
    ChargeLeftBehind = "charge-left-behind",
    /// An image nobody waits for any more has no grace period: it lives on.
    GraceNeverStarts = "grace-never-starts",
    /// A host that asked to be left alone is asked for other ranges.
    HostHoldForgotten = "host-hold-forgotten",
    /// An image in debt is given as many rounds as it takes, and keeps what it does not use.
    DeficitHoarded = "deficit-hoarded",
    /// A place does not look for what is linked where it belongs.
    ChainLinkedTwice = "chain-linked-twice",
    /// A shutdown drops the trees that the next start could use.
    ShutdownDrops = "shutdown-drops",
    /// Lanes go on after the grace of a shutdown.
    ShutdownNeverOver = "shutdown-never-over",
    /// A failed request does not say anything about its host: it never cools down.
    CoolDownOff = "cool-down-off",
    /// What a hedge brings counts as fetched although it was here.
    HedgeCountedTwice = "hedge-counted-twice",
    /// Ranges are hedged whatever may be brought twice.
    HedgeUnbounded = "hedge-unbounded",
    /// When a hedged fetch fails, its range is asked for again although the hedge brings it.
    HedgeForgotten = "hedge-forgotten",
}

#[cfg(feature = "mutants")]
pub use planting::plant;

#[cfg(feature = "mutants")]
pub(crate) use planting::is_planted;

/// Without the feature there are no planted bugs.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is_planted(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
mod planting {
    use core::sync::atomic::{AtomicU32, Ordering};

    use super::Mutant;

    /// The active one plus one; 0 is none. One for the whole process: hooks have no engine at hand.
    static PLANTED: AtomicU32 = AtomicU32::new(0);

    /// Activates a planted bug in every engine of the process, or none.
    pub fn plant(mutant: Option<Mutant>) {
        let number = mutant.map_or(0, |mutant| mutant as u32 + 1);
        PLANTED.store(number, Ordering::Relaxed);
    }

    pub(crate) fn is_planted(mutant: Mutant) -> bool {
        PLANTED.load(Ordering::Relaxed) == mutant as u32 + 1
    }
}
