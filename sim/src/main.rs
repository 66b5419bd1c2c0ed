//! A discrete-event world around the parapull engine: run, swarm, replay.

fn main() {}
