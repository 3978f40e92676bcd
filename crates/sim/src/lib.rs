//! A fake OS and virtual time: seeded sweeps over the core. Nothing here touches a real process or clock.
//!
//! [`World`] drives one `Fleet` against one [`os::Os`], draws wishes and faults from a seed, and checks after
//! every handler what must never be otherwise.

mod checks;
mod imageless;
mod keeper;
mod ledger;
mod looks;
mod orders;
pub mod os;
pub mod plan;
pub mod process;
mod rng;
mod takeover;
pub mod wish;
mod world;

pub use rng::Rng;
pub use world::World;

/// What may go wrong in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Healthy,
    /// Processes fail, news come late and twice.
    Faulty,
    /// The same without repeated news and stalls, so that two worlds can be compared.
    Paired,
    /// Processes fail, and the primary dies now and then.
    Crashing,
    /// Nothing fails but that the primary dies now and then.
    Upgrading,
}

impl Mode {
    pub(crate) fn faults(self) -> bool {
        match self {
            Self::Healthy | Self::Upgrading => false,
            Self::Faulty | Self::Paired | Self::Crashing => true,
        }
    }

    pub(crate) fn echoes(self) -> bool {
        match self {
            Self::Healthy | Self::Paired | Self::Upgrading => false,
            Self::Faulty | Self::Crashing => true,
        }
    }

    pub(crate) fn stalls(self) -> bool {
        self.echoes()
    }

    pub(crate) fn crashes(self) -> bool {
        match self {
            Self::Healthy | Self::Faulty | Self::Paired => false,
            Self::Crashing | Self::Upgrading => true,
        }
    }
}
