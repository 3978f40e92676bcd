//! What members with different weights are owed: smooth weighted round-robin that makes up for those that were busy.
//!
//! With each connection every member earns its weight, and who gets the connection pays what all have earned. So the
//! credits of all always sum up to 0, and each has had its share to within one round. A member that is busy goes on
//! earning, up to a bound: then it counts as absent. Must never let a member without weight have a part in it: it
//! would take up what belongs to the others.

use crate::balancer::Member;

/// For so many connections of its own a member that had no room is made up to.
const OWED_MAX: i64 = 64;

/// What a member is owed, in weights: a connection costs what all earn with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Credit {
    balance: i64,
    /// It is owed so much that it earns no more until it has got some.
    is_full: bool,
}

impl Credit {
    /// What it would have when the next connection is paid for.
    pub(super) fn with_next(self, weight: u32) -> i64 {
        self.balance + self.earns(weight)
    }

    fn earns(self, weight: u32) -> i64 {
        if self.is_full { 0 } else { i64::from(weight) }
    }

    fn change(&mut self, by: i64, bound: i64) {
        self.balance = self.balance.saturating_add(by);
        self.is_full = self.balance >= bound;
    }
}

/// The member at `position` gets a connection.
pub(super) fn charge<Id>(members: &mut [Member<Id>], position: usize) {
    turn_over(members, position, 1);
}

/// The member at `position` did not get it after all.
pub(super) fn refund<Id>(members: &mut [Member<Id>], position: usize) {
    turn_over(members, position, -1);
}

fn turn_over<Id>(members: &mut [Member<Id>], position: usize, sign: i64) {
    if members[position].terms.weight == 0 {
        return;
    }
    let earns = |member: &Member<Id>| member.credit.earns(member.terms.weight);
    let price: i64 = members.iter().map(earns).sum();
    let bound = bound(members);
    for (at, member) in members.iter_mut().enumerate() {
        let pays = if at == position { price } else { 0 };
        let earned = earns(member);
        member.credit.change(sign * (earned - pays), bound);
    }
}

/// What one who has left was owed, or owed, goes to those who stay: their sum is 0 again.
pub(super) fn spread<Id>(members: &mut [Member<Id>], credit: Credit) {
    let bound = bound(members);
    let mut heirs = members.iter().filter(|member| member.terms.weight > 0).count() as i64;
    let mut left = credit.balance;
    for member in members.iter_mut().filter(|member| member.terms.weight > 0) {
        let share = left / heirs;
        member.credit.change(share, bound);
        left -= share;
        heirs -= 1;
    }
}

fn bound<Id>(members: &[Member<Id>]) -> i64 {
    let all: i64 = members.iter().map(|member| i64::from(member.terms.weight)).sum();
    OWED_MAX.saturating_mul(all)
}
