//! Which worker gets the next connection. Pure bookkeeping: it never sees a socket, reads a figure or draws a number
//! that its seed does not decide.
//!
//! A choice looks at each member once and allocates nothing; the plain strategies stop at the first member that has
//! nothing to do.

mod credit;

use crate::balancer::credit::Credit;
use crate::{InstanceId, Strategy};

/// By what a member of a balancer is known, unless its user has a better handle: the youngest is the highest.
pub type MemberId = InstanceId;

/// How a member is given connections. Each generation of an app may bring other terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The rule. Among members with different ones that of the youngest counts, who has the highest id.
    pub strategy: Strategy,
    /// How many connections the member itself may leave unanswered.
    pub window: u32,
    /// Its share under [`Strategy::Weighted`]. A member with 0 gets one only where no other could.
    pub weight: u32,
}

/// What is known of a member's load right now. The figures include what was handed over to it and it has not
/// answered; where one is missing, what it has not answered is all that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that it works on.
    pub in_flight: Option<u64>,
    /// Connections that are open.
    pub connections: Option<u64>,
    /// How late its event loop is, in microseconds.
    pub lag_us: Option<u64>,
}

/// Whether a member can be given a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// It could now, and this is its load.
    Takes(Load),
    /// Not for the moment.
    Waits,
    /// It does not serve this kind of connection at all.
    Declines,
}

/// The admitted instances of one app and what each has in hand. A user that keeps them in places of its own may know
/// them by those, so that a choice looks nothing up.
///
/// Verbs come in pairs: `admit`/`withdraw`, `handed`/`answered` or `returned`. [`Balancer::choose`] only reads, so
/// that a choice that could not be carried out costs nothing; the turn passes with `handed`.
#[derive(Clone, Debug)]
pub struct Balancer<Id = MemberId> {
    /// That of the youngest member.
    strategy: Strategy,
    members: Vec<Member<Id>>,
    turn: usize,
    /// Where chance is; each connection that is handed over moves it on.
    chance: u64,
}

#[derive(Clone, Debug)]
struct Member<Id> {
    id: Id,
    terms: Terms,
    unanswered: u32,
    credit: Credit,
}

/// A member that could be chosen, and how it compares: the lowest key wins.
struct Candidate<Id, Key> {
    id: Id,
    key: Key,
}

impl<Id: Copy + Ord> Balancer<Id> {
    /// An empty balancer. The seed decides what [`Strategy::Random`] picks.
    pub fn new(seed: u64) -> Self {
        Self { strategy: Strategy::default(), members: Vec::new(), turn: 0, chance: seed }
    }

    /// Starts giving connections to `id`. `unanswered` is what it already has in hand. Idempotent.
    pub fn admit(&mut self, id: Id, terms: Terms, unanswered: u32) {
        if self.position(id).is_none() {
            self.members.push(Member { id, terms, unanswered, credit: Credit::default() });
            self.follow_youngest();
        }
    }

    /// Stops giving connections to `id`. Idempotent.
    pub fn withdraw(&mut self, id: Id) {
        if let Some(position) = self.position(id) {
            let gone = self.members.remove(position);
            if position < self.turn {
                self.turn -= 1;
            }
            credit::spread(&mut self.members, gone.credit);
            self.follow_youngest();
        }
    }

    /// A connection went to `id`; the turn passes on.
    pub fn handed(&mut self, id: Id) {
        if let Some(position) = self.position(id) {
            self.members[position].unanswered += 1;
            self.turn = position + 1;
            self.chance = self.chance.wrapping_add(GOLDEN);
            if self.strategy == Strategy::Weighted {
                credit::charge(&mut self.members, position);
            }
        }
    }

    /// `id` answered for a connection.
    pub fn answered(&mut self, id: Id) {
        if let Some(position) = self.position(id) {
            let member = &mut self.members[position];
            member.unanswered = member.unanswered.saturating_sub(1);
        }
    }

    /// `id` gave a connection back, or it was taken from it: it counts as never handed to it.
    pub fn returned(&mut self, id: Id) {
        self.answered(id);
        if let Some(position) = self.position(id).filter(|_| self.strategy == Strategy::Weighted) {
            credit::refund(&mut self.members, position);
        }
    }

    /// The member that should get the next connection among those that take it, if one has room. `look` is asked at
    /// most once for each.
    pub fn choose(&self, look: impl Fn(Id) -> Stance) -> Option<Id> {
        match self.strategy {
            // Who is sticky is sorted by the kernel: what comes this way is a connection that its worker has missed.
            Strategy::LeastBusy | Strategy::Sticky => self.least_busy(look),
            Strategy::RoundRobin => self.next_in_turn(look),
            Strategy::LeastConnections => self.least_connected(look),
            Strategy::Weighted => self.most_owed(look),
            Strategy::Random => self.better_of_two(look),
        }
    }

    /// Whether a member other than `except` that `may` take a connection has nothing in hand.
    pub fn has_idle(&self, except: Id, may: impl Fn(Id) -> bool) -> bool {
        self.members.iter().any(|member| member.id != except && member.unanswered == 0 && may(member.id))
    }

    /// Whether a choice looks at loads.
    pub fn wants_loads(&self) -> bool {
        match self.strategy {
            Strategy::LeastBusy | Strategy::LeastConnections | Strategy::Random | Strategy::Sticky => true,
            Strategy::RoundRobin | Strategy::Weighted => false,
        }
    }

    /// Whether `id` is admitted.
    pub fn is_admitted(&self, id: Id) -> bool {
        self.position(id).is_some()
    }

    /// How many are admitted.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is admitted.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn next_in_turn(&self, look: impl Fn(Id) -> Stance) -> Option<Id> {
        let takes = |member: &Member<Id>| matches!(look(member.id), Stance::Takes(_));
        let mut with_room = None;
        for member in self.in_turn() {
            if member.unanswered == 0 && takes(member) {
                return Some(member.id);
            }
            // Asked once: a member with nothing in hand that did not take it just now does not here either.
            if with_room.is_none() && member.unanswered > 0 && member.has_room() && takes(member) {
                with_room = Some(member.id);
            }
        }
        with_room
    }

    fn least_busy(&self, look: impl Fn(Id) -> Stance) -> Option<Id> {
        let mut first = None;
        let mut best = None;
        let mut any_reports = false;
        for member in self.in_turn() {
            let Some(load) = member.load(&look) else { continue };
            let busyness = member.busyness(load);
            if busyness.0 == 0 {
                return Some(member.id);
            }
            any_reports |= load.in_flight.is_some();
            first = first.or(Some(member.id));
            keep_lower(&mut best, Candidate { id: member.id, key: busyness });
        }
        // Without a word from anybody what is unanswered says nothing of how busy they are.
        if any_reports { best.map(|it| it.id) } else { first }
    }

    fn least_connected(&self, look: impl Fn(Id) -> Stance) -> Option<Id> {
        let mut best = None;
        for member in self.in_turn() {
            let Some(load) = member.load(&look) else { continue };
            match load.connections.unwrap_or(0).max(member.unanswered.into()) {
                0 => return Some(member.id),
                key => keep_lower(&mut best, Candidate { id: member.id, key }),
            }
        }
        best.map(|it| it.id)
    }

    fn most_owed(&self, look: impl Fn(Id) -> Stance) -> Option<Id> {
        let mut best = None;
        let mut spare = None;
        let mut somebody_counts = false;
        for member in &self.members {
            let stance = look(member.id);
            somebody_counts |= member.terms.weight > 0 && stance != Stance::Declines;
            if !matches!(stance, Stance::Takes(_)) || !member.has_room() {
                continue;
            }
            if member.terms.weight > 0 {
                let key = std::cmp::Reverse(member.credit.with_next(member.terms.weight));
                keep_lower(&mut best, Candidate { id: member.id, key });
            } else {
                keep_lower(&mut spare, Candidate { id: member.id, key: member.unanswered });
            }
        }
        let best = best.map(|it| it.id);
        if somebody_counts { best } else { spare.map(|it| it.id) }
    }

    fn better_of_two(&self, look: impl Fn(Id) -> Stance) -> Option<Id> {
        let mut chance = Chance(self.chance);
        let mut pair: [Option<Candidate<Id, (u64, u64)>>; 2] = [None, None];
        let mut seen = 0;
        for member in &self.members {
            let Some(load) = member.load(&look) else { continue };
            // Each pair of those that have room is as likely as any other.
            let place = if seen < 2 { seen } else { chance.below(seen + 1) };
            if let Some(place) = pair.get_mut(place) {
                *place = Some(Candidate { id: member.id, key: member.busyness(load) });
            }
            seen += 1;
        }
        match pair {
            [Some(one), Some(other)] => {
                let first_wins = match one.key.cmp(&other.key) {
                    std::cmp::Ordering::Less => true,
                    std::cmp::Ordering::Equal => chance.below(2) == 0,
                    std::cmp::Ordering::Greater => false,
                };
                Some(if first_wins { one.id } else { other.id })
            }
            [one, other] => one.or(other).map(|it| it.id),
        }
    }

    /// All members, first the one whose turn it is.
    fn in_turn(&self) -> impl Iterator<Item = &Member<Id>> {
        let (passed, coming) = self.members.split_at(self.turn.min(self.members.len()));
        coming.iter().chain(passed)
    }

    fn follow_youngest(&mut self) {
        let Some(youngest) = self.members.iter().max_by_key(|member| member.id) else { return };
        let strategy = youngest.terms.strategy;
        if std::mem::replace(&mut self.strategy, strategy) != strategy {
            self.members.iter_mut().for_each(|member| member.credit = Credit::default());
        }
    }

    fn position(&self, id: Id) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }
}

impl<Id: Copy> Member<Id> {
    fn has_room(&self) -> bool {
        self.unanswered < self.terms.window
    }

    /// Its load, if it has room and takes one.
    fn load(&self, look: impl Fn(Id) -> Stance) -> Option<Load> {
        if !self.has_room() {
            return None;
        }
        match look(self.id) {
            Stance::Takes(load) => Some(load),
            Stance::Waits | Stance::Declines => None,
        }
    }

    /// What it works on, then how late it is.
    fn busyness(&self, load: Load) -> (u64, u64) {
        let in_flight = load.in_flight.unwrap_or(0).max(self.unanswered.into());
        (in_flight, load.lag_us.unwrap_or(0))
    }
}

fn keep_lower<Id, Key: Ord>(best: &mut Option<Candidate<Id, Key>>, candidate: Candidate<Id, Key>) {
    if best.as_ref().is_none_or(|best| candidate.key < best.key) {
        *best = Some(candidate);
    }
}

/// 2^64 over the golden ratio: its multiples fill the whole range evenly.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Numbers that a seed decides.
struct Chance(u64);

impl Chance {
    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(GOLDEN);
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mixed = mixed ^ (mixed >> 32);
        ((u128::from(mixed) * end as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests;
