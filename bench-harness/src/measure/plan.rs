//! The order of runs: interleaved, and rotated so that no configuration always follows the same other one.

/// One run: which configuration, and its how-manieth repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Index of the configuration.
    pub configuration: usize,
    /// Repetition from 0.
    pub repetition: usize,
}

/// Every configuration once per repetition, each repetition starting one configuration later than the one before.
///
/// A machine that grows warm or gets busier then hits all of them alike.
pub fn interleaved(configurations: usize, repetitions: usize) -> Vec<Turn> {
    let round = |repetition| {
        (0..configurations).map(move |place| Turn {
            configuration: (place + repetition) % configurations,
            repetition,
        })
    };
    (0..repetitions).flat_map(round).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_configuration_runs_in_every_place() {
        let turns = interleaved(3, 3);
        let order: Vec<usize> = turns.iter().map(|turn| turn.configuration).collect();
        assert_eq!(order, [0, 1, 2, 1, 2, 0, 2, 0, 1]);
        assert_eq!(turns.last().map(|turn| turn.repetition), Some(2));
        assert!(interleaved(0, 5).is_empty() && interleaved(5, 0).is_empty());
    }
}
