//! An OCI registry with ranges, throttles and faults, and a deterministic image crafter.
