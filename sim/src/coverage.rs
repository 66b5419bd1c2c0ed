//! Interesting states, and how often runs were in them: a swarm that never gets somewhere tests nothing there.

/// Declares the points with what they mean.
macro_rules! points {
    ($($name:ident = $text:literal,)+) => {
        /// A state that some run must reach.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $(
                #[doc = $text]
                $name,
            )+
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What it is, in words.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

points! {
    FaultReset = "fault: a body is reset",
    FaultTruncated = "fault: a body ends early",
    FaultCorrupt = "fault: a byte is wrong",
    FaultStatus = "fault: a status instead of an answer",
    FaultRetryAfter = "fault: a status that says when to come back",
    FaultStall = "fault: a body falls silent",
    FaultTrickle = "fault: a body trickles",
    FaultLength = "fault: a length that contradicts the descriptor",
    FaultWholeBody = "fault: the whole blob instead of a range",
    FaultWrongRange = "fault: another range than the one asked for",
    RateLimited = "fault: more requests than the registry takes",
    ConnectionQueued = "fault: a request waits for a connection",
    Refused = "mishap: a connection is refused",
    NameUnknown = "mishap: a name is not found",
    SlowClose = "mishap: a connection is slow to close",
    Clogged = "mishap: a connection is clogged",
    LanePaused = "mishap: a decompressor stands still",
    LinkPaused = "mishap: a link waits for the disk",
    DropPaused = "mishap: a removal stands still",
    ToldLate = "mishap: a fact comes late",
    ToldTwice = "mishap: an end is told twice",
    CallersLeave = "mishap: callers leave",
    CallersReturn = "mishap: callers come back",
    CallersDoubled = "mishap: two callers wait for one layer",
    Crash = "mishap: the daemon crashes",
    CrashInFetch = "mishap: the daemon crashes in mid-fetch",
    CrashInLane = "mishap: the daemon crashes in mid-unpack",
    CrashInLink = "mishap: the daemon crashes in mid-link",
    ReadyAfterCrash = "a pull becomes ready after a crash",
    Slept = "mishap: the node sleeps",
    LaneDisk = "local fault: the disk fails a lane",
    LaneBadImage = "local fault: a layer is unusable",
    LinkNeedsParents = "local fault: a tree depends on its parents",
    LinkSourceGone = "local fault: a staged tree is gone",
    LinkDisk = "local fault: the disk fails a link",
    LocalGone = "local fault: a blob is gone from the local store",
    LocalCorrupt = "local fault: a byte in the local store is wrong",
    CancelledOutright = "a pull is cancelled outright",
    CancelledByLeaving = "a pull's callers leave for good",
    LimitsChanged = "limits change in mid-run",
    Shutdown = "the daemon is told to stop",
    LayerKept = "a staged tree is left for the next start",
    SecondSource = "a mirror is asked",
    LocalRead = "bytes are read from the local store",
    WholeRead = "a blob is read as one stream",
    Hedged = "the rest of a slow range is asked for twice",
    HedgedElsewhere = "the rest of a slow range is asked of another source",
    HedgeWins = "a hedge brings the rest first",
    HedgeLoses = "a hedge comes second",
    HedgeFails = "a hedge fails",
    HedgeFailsLast = "a hedge fails after the fetch it was for",
    HedgeCarries = "a hedged fetch fails and its hedge goes on",
    HedgeRefused = "a hedge is answered with the whole blob",
    HedgeCancelled = "a hedge is cancelled",
    HedgedCancelled = "a hedged fetch is cancelled",
    Repeated = "a range is asked for again",
    Resumed = "a range is asked for from the byte reached",
    LastAttempt = "the last attempt is made",
    CreditGranted = "a whole read is granted more credit",
    LaneStarted = "a lane starts",
    LaneOverParents = "a lane unpacks over its parents",
    LaneWidened = "a lane gets another thread",
    LaneNarrowed = "a lane gives a thread back",
    LaneWide = "a lane gets threads that cores leave idle",
    LaneWideNoMore = "a wide lane gives its threads back to others",
    Cloned = "a layer is cloned",
    CloneLinked = "a tree made for one place takes it",
    LinkedAlready = "a tree that is in place for another image serves again",
    StagedDropped = "a staged tree is dropped",
    CloneDropped = "a tree made for one place is dropped",
    BytesDropped = "all bytes of a blob are dropped",
    LookAheadDropped = "look-ahead is dropped",
    FetchCancelled = "a fetch is cancelled",
    LaneCancelled = "a lane is cancelled",
    EndBeforeCancel = "an op ends before its cancellation reaches it",
    FoundStaged = "a layer is found staged",
    FoundLinked = "a layer is found linked",
    FoundElsewhere = "a layer is found in place for another image",
    Degraded = "a blob's ranges are given up",
    NewLife = "a blob is fetched once more because it was wrong",
    SharedInFlight = "two pulls want one blob at once",
    ThreePulls = "three pulls are under way at once",
    EndsWhileShared = "a pull is cancelled while another one wants a blob of it",
    NewLifeShared = "a blob that two pulls want was wrong",
    MirrorForHeld = "a mirror is asked because the first host wants to be left alone",
    CrashAgain = "the daemon crashes a second time",
    OutcomeReady = "outcome: ready",
    OutcomeCancelled = "outcome: cancelled",
    OutcomeFetch = "outcome: a layer could not be fetched",
    OutcomeLane = "outcome: a layer could not be unpacked",
    OutcomeLink = "outcome: a layer could not be linked",
    OutcomeSpool = "outcome: a blob is larger than the spool",
    WakeBackoff = "wake: a backoff",
    WakeRetryAfter = "wake: the time the registry named",
    WakeStall = "wake: a stall check",
    WakeSilence = "wake: a request may be one connection too many",
    WakeHedge = "wake: a range becomes slow",
    WakeHost = "wake: a host may be asked again",
    WakeGrace = "wake: a grace period",
    WakeStaging = "wake: a staged tree nobody wants",
    HoldFetches = "hold: all fetches are taken",
    HoldFetchesPerImage = "hold: all fetches of the image are taken",
    HoldWindow = "hold: the window is full",
    HoldLayerWindow = "hold: the layer's share is full",
    HoldLane = "hold: look-ahead is used up",
    HoldSpool = "hold: the spool is full",
    HoldBackoff = "hold: a backoff",
    HoldRetryAfter = "hold: every host asked to be left alone",
    HoldHostConnections = "hold: the host bears no more connections",
    HoldHostRequests = "hold: the host's request rate is used up",
    HoldSettling = "hold: a plan changes",
    HoldUnpacks = "hold: all lanes are taken",
    HoldUnpacksPerImage = "hold: all lanes of the image are taken",
    HoldThreads = "hold: all threads are taken",
    HoldBytes = "hold: the blob is not complete",
    HoldParent = "hold: the layer below is not linked",
    HoldCaller = "hold: nobody waits",
    HoldBlobInUse = "hold: the blob is read for another layer",
    HoldLimits = "hold: limits are changing",
}

/// How often each point was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage([u64; Point::ALL.len()]);

impl Coverage {
    /// Notes that a point was reached.
    pub const fn sometimes(&mut self, point: Point) {
        self.0[point as usize] += 1;
    }

    /// Adds what another run reached.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
    }

    /// Every point with how often it was reached.
    pub fn counts(&self) -> impl Iterator<Item = (Point, u64)> {
        Point::ALL.iter().copied().zip(self.0)
    }

    /// What was never reached.
    #[must_use]
    pub fn unreached(&self) -> Vec<Point> {
        let never = self.counts().filter(|(_, count)| *count == 0);
        never.map(|(point, _)| point).collect()
    }
}

impl Default for Coverage {
    fn default() -> Self {
        Self([0; Point::ALL.len()])
    }
}
