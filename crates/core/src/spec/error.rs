//! Why an app's configuration is refused: each refusal says the way out.

use thiserror::Error;

use crate::{AppSpec, Distribution, Sockets, Strategy};

/// Why an `AppSpec` is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SpecError {
    /// `instances` is 0, where that is not [allowed](crate::Limits::may_be_empty).
    #[error("instances must be at least 1")]
    NoInstances,
    /// More workers than [`crate::Limits::max_instances`].
    #[error("{wanted} instances are more than the limit of {limit}")]
    TooManyInstances {
        /// What was asked for.
        wanted: u32,
        /// The most there can be.
        limit: u32,
    },
    /// `parallel`, `max_restarts`, `handoff_window`, `max_message` or another of that kind is 0.
    #[error("{key} must be at least 1")]
    Zero {
        /// The configuration key.
        key: &'static str,
    },
    /// A name with nothing in it.
    #[error("the app has no name")]
    NoName,
    /// A name that cannot be seen, or would be read as something else.
    #[error("the name `{name}` {why}: choose another")]
    BadName {
        /// The name, without what cannot be seen.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A text that the kernel would cut short.
    #[error("{key} has a NUL character, where no program would read on: leave it out")]
    Nul {
        /// The configuration key.
        key: &'static str,
    },
    /// Weights that nothing would look at.
    #[error("weights have no effect with strategy `{0}`: choose `weighted`, or leave them out")]
    WeightsUnused(Strategy),
    /// Nobody would be given anything.
    #[error("all weights are 0: at least one must be 1 or more")]
    NoWeight,
    /// A weight beyond [`AppSpec::WEIGHT_MAX`].
    #[error("weight {0} is more than the limit of {max}: it is their ratio that counts", max = AppSpec::WEIGHT_MAX)]
    WeightTooLarge(u32),
    /// More weights than [`crate::Limits::max_instances`].
    #[error("{given} weights are more than the limit of {limit} slots")]
    TooManyWeights {
        /// What was given.
        given: usize,
        /// The most slots there can be.
        limit: u32,
    },
    /// All workers accept from one listener: nobody chooses.
    #[error(
        "strategy `{strategy}` has no effect with distribution `shared`, where a connection is whose worker comes first: \
         choose distribution {others}, or leave the strategy out"
    )]
    NotChosen {
        /// What was asked for.
        strategy: Strategy,
        /// The distributions that have it.
        others: &'static str,
    },
    /// Only the kernel keeps addresses and workers together.
    #[error(
        "strategy `sticky` needs distribution `kernel`, and this is `{0}`: choose `kernel`, or another strategy"
    )]
    StickyElsewhere(Distribution),
    /// The kernel's program has an end.
    #[error("{0} instances are more than the {max} that strategy `sticky` can tell apart: use fewer, or another strategy",
        max = AppSpec::STICKY_INSTANCES_MAX)]
    TooManySticky(u32),
    /// Workers that bind their own sockets get no connections from the primary.
    #[error(
        "strategy `{0}` needs workers that get their connections over the channel, and these bind their own \
         sockets: leave the strategy out, or set sockets to `channel` where the program speaks Node's cluster protocol"
    )]
    NothingToChoose(Strategy),
    /// Workers that bind their own sockets have no channel.
    #[error(
        "serialization `advanced` needs workers that have a channel, and these bind their own sockets: leave it \
         out, or set sockets to `channel` where the program speaks Node's cluster protocol"
    )]
    NothingToSerialize,
    /// Nothing can be handed to workers without a channel.
    #[error(
        "distribution `handoff` needs workers that have a channel, and with sockets `{0}` they have none: choose \
         `kernel` or `shared`, or leave the distribution out"
    )]
    NoHandoff(Sockets),
    /// Ports that nothing would look at.
    #[error("ports have no effect with sockets `{0}`: set sockets to `universal`, or leave them out")]
    PortsUnused(Sockets),
    /// Listeners that nobody would be started with.
    #[error("listen has no effect with sockets `{0}`: set sockets to `listen-fds`, or leave it out")]
    ListenUnused(Sockets),
    /// Workers that wait for listeners in their environment, and none is named.
    #[error(
        "sockets `listen-fds` needs listeners to start workers with: name them with listen, such as \
         web=0.0.0.0:8080, or choose `universal`"
    )]
    NothingToListenAt,
    /// A listener's name or address is none.
    #[error("{0}")]
    BadListener(String),
    /// Two listeners have the same name or address.
    #[error("two listeners have the {what} `{value}`: each needs its own")]
    ListenerTwice {
        /// What is the same.
        what: &'static str,
        /// What it is.
        value: String,
    },
    /// There is no number of slots between the bounds.
    #[error(
        "instances cannot be between {min} and {max}: give a min of at least 1, and a max that is not less"
    )]
    BadBounds {
        /// Not fewer slots than this.
        min: u32,
        /// Not more.
        max: u32,
    },
    /// The number of slots follows the load, between bounds.
    #[error(
        "{wanted} instances are not between {min} and {max}, where the load decides: reload with other bounds"
    )]
    OutOfBounds {
        /// What was asked for.
        wanted: u32,
        /// Not fewer slots than this.
        min: u32,
        /// Not more.
        max: u32,
    },
    /// Only one pause can come before a respawn.
    #[error("restart_delay and exp_backoff_restart_delay do not go together: keep one of them")]
    TwoDelays,
    /// What workers say or are asked over a channel that they do not have.
    #[error(
        "{key} needs workers that have a channel, and with sockets `{sockets}` they have none: leave it out, or set \
         sockets to `channel` where the program speaks Node's cluster protocol"
    )]
    NeedsChannel {
        /// The configuration key.
        key: &'static str,
        /// How these workers come by their sockets.
        sockets: Sockets,
    },
    /// Standbys wait where they want to listen, and these workers are not seen to.
    #[error(
        "standbys wait where they want to listen, and with sockets `{0}` nobody sees that: set sockets to \
         `universal`, or to `channel` where the program speaks Node's cluster protocol, or leave standby out"
    )]
    NowhereToPark(Sockets),
    /// More standbys than [`crate::Limits::max_instances`].
    #[error("{wanted} standbys are more than the limit of {limit}")]
    TooManyStandbys {
        /// What was asked for.
        wanted: u32,
        /// The most there can be.
        limit: u32,
    },
    /// What is to be probed is no URL of ours.
    #[error("`{url}` cannot be probed: write http://HOST:PORT/PATH or tcp://HOST:PORT")]
    BadProbe {
        /// What was given.
        url: String,
    },
    /// A variable's name that no environment can have.
    #[error("{key} `{name}` is no variable's name: it is not empty and has no `=`")]
    BadVariable {
        /// The configuration key.
        key: &'static str,
        /// What was given.
        name: String,
    },
    /// A number is counted on from, and this is none.
    #[error("increment_var counts on from variable `{name}`, which is `{value}`: give it a whole number")]
    NothingToIncrement {
        /// Which variable.
        name: String,
        /// What the app's environment has.
        value: String,
    },
}
