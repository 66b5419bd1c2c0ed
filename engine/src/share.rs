//! Shares: deficit round-robin between images, for one resource.
//!
//! An image whose balance is positive may be served and pays what it got, so it can fall into debt by one piece. When
//! everyone who could be served is in debt, each gets a quantum times its weight, and no balance grows beyond that. Who
//! has nothing to be served with saves nothing. So between two images with eligible work what they were served, by
//! weight, differs by one quantum and one indivisible piece at most (invariant 11).

use alloc::collections::BTreeMap;

use crate::id::ImageId;

/// Who was served how much of one resource.
#[derive(Debug)]
pub(crate) struct Share {
    quantum: i64,
    members: BTreeMap<ImageId, Member>,
    /// Whose turn it is; it may have left.
    at: ImageId,
    /// Served in this turn.
    turn: i64,
    /// The most that was ever served in one turn.
    turn_max: i64,
}

#[derive(Debug)]
struct Member {
    weight: i64,
    balance: i64,
    /// What it was given in all, less what it could not save.
    granted: i64,
    served: i64,
}

impl Member {
    fn set_balance(&mut self, balance: i64) {
        self.granted = self.granted.saturating_add(balance - self.balance);
        self.balance = balance;
    }
}

impl Share {
    pub(crate) const fn new(quantum: u64) -> Self {
        Self {
            quantum: signed(quantum),
            members: BTreeMap::new(),
            at: ImageId(0),
            turn: 0,
            turn_max: 0,
        }
    }

    /// A quantum must cover one piece, or a round could serve nobody.
    pub(crate) fn set_quantum(&mut self, quantum: u64) {
        self.quantum = signed(quantum);
        for member in self.members.values_mut() {
            let most = self.quantum.saturating_mul(member.weight).max(1);
            member.set_balance(member.balance.min(most));
        }
    }

    pub(crate) fn enter(&mut self, image: ImageId, weight: u32) {
        let weight = i64::from(weight.max(1));
        let balance = self.quantum.saturating_mul(weight);
        let member = Member {
            weight,
            balance,
            granted: balance,
            served: 0,
        };
        self.members.insert(image, member);
    }

    pub(crate) fn leave(&mut self, image: ImageId) {
        self.members.remove(&image);
    }

    /// Where a look for the next one to be served begins.
    pub(crate) const fn at(&self) -> ImageId {
        self.at
    }

    pub(crate) fn may_be_served(&self, image: ImageId) -> bool {
        self.members
            .get(&image)
            .is_some_and(|member| member.balance > 0)
    }

    /// An image is served now.
    pub(crate) const fn begin_turn(&mut self, image: ImageId) {
        self.at = image;
        self.turn = 0;
    }

    /// Charges what an image was served.
    pub(crate) fn charge(&mut self, image: ImageId, amount: u64) {
        if let Some(member) = self.members.get_mut(&image) {
            member.served = member.served.saturating_add(signed(amount));
            if !mutant!(FairnessOff) {
                member.balance = member.balance.saturating_sub(signed(amount));
            }
        }
        self.turn = self.turn.saturating_add(signed(amount));
        self.turn_max = self.turn_max.max(self.turn);
    }

    /// An image has nothing it could be served with: it saves nothing for later.
    pub(crate) fn rest(&mut self, image: ImageId) {
        if let Some(member) = self.members.get_mut(&image) {
            member.set_balance(member.balance.min(0));
        }
    }

    /// Gives the images that could be served, all of them in debt, as many rounds as it takes until one may be.
    pub(crate) fn refill(&mut self, images: impl Iterator<Item = ImageId> + Clone) {
        let round = |member: &Member, quantum: i64| quantum.saturating_mul(member.weight).max(1);
        let rounds = images
            .clone()
            .filter_map(|image| self.members.get(&image))
            .map(|member| (-member.balance).max(0) / round(member, self.quantum) + 1)
            .min()
            .unwrap_or(0);
        for image in images {
            if let Some(member) = self.members.get_mut(&image) {
                let round = round(member, self.quantum);
                let balance = member.balance.saturating_add(round.saturating_mul(rounds));
                let most = if mutant!(DeficitHoarded) {
                    i64::MAX
                } else {
                    round
                };
                member.set_balance(balance.min(most));
            }
        }
    }

    /// The image to be served next of those that could be, in ring order.
    pub(crate) fn next(
        &mut self,
        images: impl Iterator<Item = ImageId> + Clone,
    ) -> Option<ImageId> {
        let at = self.at;
        let turn_of = |share: &Self| {
            images
                .clone()
                .filter(|image| share.may_be_served(*image))
                .min_by_key(|image| (*image < at, *image))
        };
        let next = match turn_of(self) {
            Some(image) => Some(image),
            None => {
                self.refill(images.clone());
                turn_of(self)
            }
        }?;
        self.begin_turn(next);
        Some(next)
    }

    /// The bounds from which fairness follows.
    pub(crate) fn check(&self, what: &str) {
        for (image, member) in &self.members {
            let most = self.quantum.saturating_mul(member.weight).max(1);
            assert!(
                member.balance <= most,
                "invariant 11 (fairness): {image:?} saved {} of {what}, {most} at most",
                member.balance
            );
            assert_eq!(
                member.balance,
                member.granted - member.served,
                "invariant 11 (fairness): {image:?} did not pay for its {what}"
            );
        }
    }

    /// That nobody is served more in advance than one turn's worth.
    pub(crate) fn check_debts(&self, what: &str) {
        for (image, member) in &self.members {
            assert!(
                member.balance >= -self.turn_max,
                "invariant 11 (fairness): {image:?} owes {} of {what}",
                -member.balance
            );
        }
    }
}

const fn signed(amount: u64) -> i64 {
    if amount > i64::MAX as u64 {
        i64::MAX
    } else {
        amount.cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// Serves whoever is next a piece of its own size; what each was served, after every turn.
    fn serve(weights: &[u32], pieces: &[u64], turns: usize) -> Vec<Vec<u64>> {
        let quantum = *pieces.iter().max().unwrap();
        let mut share = Share::new(quantum);
        let ids = || (0..).map(ImageId).take(weights.len());
        for (image, weight) in ids().zip(weights) {
            share.enter(image, *weight);
        }
        let mut served = std::vec![0; weights.len()];
        let mut history = Vec::new();
        for _ in 0..turns {
            let image = share.next(ids()).unwrap();
            let index = image.0 as usize;
            share.charge(image, pieces[index]);
            served[index] += pieces[index];
            share.check("bytes");
            share.check_debts("bytes");
            history.push(served.clone());
        }
        history
    }

    #[test]
    fn serves_by_weight() {
        let served = serve(&[1, 3], &[10, 10], 400).pop().unwrap();
        assert_eq!(served, [1_000, 3_000]);
    }

    #[test]
    fn who_rests_saves_nothing() {
        let mut share = Share::new(10);
        share.enter(ImageId(0), 1);
        share.enter(ImageId(1), 1);
        for _ in 0..100 {
            share.rest(ImageId(1));
            let only = core::iter::once(ImageId(0));
            assert_eq!(share.next(only), Some(ImageId(0)));
            share.charge(ImageId(0), 10);
        }
        let both = [ImageId(0), ImageId(1)];
        let mut turns = [0, 0];
        for _ in 0..10 {
            let image = share.next(both.iter().copied()).unwrap();
            share.charge(image, 10);
            turns[image.0 as usize] += 1;
        }
        assert_eq!(turns, [5, 5]);
    }

    proptest! {
        #[test]
        fn what_was_served_differs_by_a_quantum_and_a_piece_at_most(
            members in proptest::collection::vec((1u32..5, 1u64..1_000), 2..6),
            turns in 1usize..400,
        ) {
            let (weights, pieces): (Vec<u32>, Vec<u64>) = members.into_iter().unzip();
            let quantum = *pieces.iter().max().unwrap();
            for served in serve(&weights, &pieces, turns) {
                for (one, other) in (0..weights.len()).flat_map(|one| (0..one).map(move |other| (one, other))) {
                    let by_weight = |index: usize| served[index] / u64::from(weights[index]);
                    let apart = by_weight(one).abs_diff(by_weight(other));
                    prop_assert!(apart <= 2 * quantum, "{apart} of {quantum}: {served:?} {weights:?}");
                }
            }
        }
    }
}
