//! The outstanding ops by id.
//!
//! Ids count up, so where an op is kept stands at its id's distance from the oldest open one: four bytes for each op
//! issued since. The ops themselves lie in places that are used again, so nothing is allocated once there were as many.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Index;

use crate::id::OpId;
use crate::op::Op;

/// Ops that are not closed.
#[derive(Debug, Default)]
pub(crate) struct Ops {
    /// The id that `places` begins with.
    first: u64,
    /// Where each op is kept, or `CLOSED`; the first one is open.
    places: VecDeque<u32>,
    kept: Vec<Option<Op>>,
    free: Vec<u32>,
}

impl Ops {
    /// The id of the op that is opened next.
    pub(crate) fn next_id(&self) -> OpId {
        OpId(self.first + self.places.len() as u64)
    }

    /// Keeps an op under the next id.
    pub(crate) fn open(&mut self, op: Op) -> OpId {
        let id = self.next_id();
        let place = match self.free.pop() {
            Some(place) => {
                self.kept[place as usize] = Some(op);
                place
            }
            None => {
                self.kept.push(Some(op));
                u32::try_from(self.kept.len() - 1).unwrap_or(CLOSED)
            }
        };
        assert!(place != CLOSED, "more ops are open than can be counted");
        self.places.push_back(place);
        id
    }

    /// Takes an op out.
    pub(crate) fn close(&mut self, id: OpId) -> Option<Op> {
        let index = self.index(id)?;
        let place = core::mem::replace(self.places.get_mut(index)?, CLOSED);
        if place == CLOSED {
            return None;
        }
        self.free.push(place);
        let op = self.kept[place as usize].take();
        while self.places.pop_front_if(|place| *place == CLOSED).is_some() {
            self.first += 1;
        }
        op
    }

    /// The oldest one.
    pub(crate) fn first_id(&self) -> Option<OpId> {
        (!self.places.is_empty()).then_some(OpId(self.first))
    }

    pub(crate) fn get(&self, id: &OpId) -> Option<&Op> {
        self.kept[self.place(*id)?].as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: &OpId) -> Option<&mut Op> {
        let place = self.place(*id)?;
        self.kept[place].as_mut()
    }

    pub(crate) fn contains_key(&self, id: &OpId) -> bool {
        self.place(*id).is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The ops, in no order that means anything.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Op> {
        self.kept.iter().flatten()
    }

    fn index(&self, id: OpId) -> Option<usize> {
        usize::try_from(id.0.checked_sub(self.first)?).ok()
    }

    fn place(&self, id: OpId) -> Option<usize> {
        let place = *self.places.get(self.index(id)?)?;
        (place != CLOSED).then_some(place as usize)
    }
}

impl Index<&OpId> for Ops {
    type Output = Op;

    fn index(&self, id: &OpId) -> &Op {
        match self.get(id) {
            Some(op) => op,
            None => panic!("invariant 5 (ops): {id:?} is not open"),
        }
    }
}

const CLOSED: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ImageId;
    use crate::op::OpKind;
    use crate::output::Place;

    fn op(index: u32) -> Op {
        let place = Place {
            image: ImageId(0),
            index,
        };
        Op {
            kind: OpKind::DropClone { place },
            cancelling: false,
        }
    }

    fn index_of(ops: &Ops, id: OpId) -> Option<u32> {
        ops.get(&id).map(|op| match op.kind {
            OpKind::DropClone { place } => place.index,
            _ => unreachable!(),
        })
    }

    #[test]
    fn finds_what_is_open_and_reuses_the_places_of_what_is_closed() {
        let mut ops = Ops::default();
        let ids: Vec<_> = (0..100).map(|index| ops.open(op(index))).collect();
        for id in ids.iter().skip(1).step_by(2) {
            assert!(ops.close(*id).is_some());
            assert!(ops.close(*id).is_none());
        }
        for index in 100..150 {
            assert_eq!(ops.open(op(index)), OpId(u64::from(index)));
        }
        assert_eq!(ops.kept.len(), 100);
        assert_eq!(index_of(&ops, OpId(1)), None);
        assert_eq!(index_of(&ops, OpId(2)), Some(2));
        assert_eq!(index_of(&ops, OpId(149)), Some(149));
        assert_eq!(index_of(&ops, OpId(150)), None);
        assert_eq!(ops.values().count(), 100);
    }

    #[test]
    fn forgets_the_ids_before_the_oldest_open_one() {
        let mut ops = Ops::default();
        for index in 0..1_000 {
            let id = ops.open(op(index));
            assert!(ops.close(id).is_some());
        }
        assert!(ops.is_empty() && ops.places.is_empty());
        assert_eq!((ops.next_id(), ops.first_id()), (OpId(1_000), None));
    }
}
