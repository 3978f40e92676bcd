//! Scenarios on virtual time: each is a short script that ends with what the core ordered and told.

mod adjust;
mod alone;
mod image;
mod lives;
mod recycle;
mod reload;
mod resize;
mod respawn;
mod scaling;
mod script;
mod standby;
mod stop;
mod takeover;
mod takeover_held;
mod wanted;
