//! HTTP servers as workers: counting requests, telling clients to come back elsewhere, and serving a router.
//!
//! Nothing here speaks HTTP itself; it wraps services of `tower` and, with the feature `axum`, its server. Must never
//! change what a service answers, but for the header that ends a connection.

mod layer;
mod report;
#[cfg(feature = "axum")]
mod serve;

pub use layer::{Counted, CountedBody, CountedFuture, RequestLayer};
#[cfg(feature = "axum")]
pub use serve::{PeerAddr, serve};
